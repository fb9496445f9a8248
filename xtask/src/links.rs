//! Checks relative links in Markdown: the file must exist, and so must the heading after `#`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

/// Reports each relative link in `pages` whose target does not exist.
pub(crate) fn check(root: &Path, pages: &[&PathBuf], findings: &mut Vec<String>) -> Result<()> {
    let mut headings: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for page in pages {
        let text = fs::read_to_string(page)?;
        let shown = page.strip_prefix(root).unwrap_or(page).display();
        for (line, target) in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let to = if path.is_empty() { (*page).clone() } else { page.with_file_name(path) };
            if !to.exists() {
                findings.push(format!("{shown}:{line}: broken link: {path} not found"));
                continue;
            }
            if anchor.is_empty() {
                continue;
            }
            if !headings.contains_key(&to) {
                headings.insert(to.clone(), anchors(&fs::read_to_string(&to)?));
            }
            if !headings[&to].iter().any(|known| known == anchor) {
                findings
                    .push(format!("{shown}:{line}: broken link: no heading #{anchor} in {}", to.display()));
            }
        }
    }
    Ok(())
}

/// The lines of a page that are not in a block of code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        (!code && !fence).then_some((index + 1, line))
    })
}

/// The targets of `[text](target)` and `![text](target)` outside code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // An odd number of backticks before the link means that it is inside code.
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            let before = &rest[..at];
            rest = &rest[at + 2..];
            let Some(end) = rest.find(')') else { break };
            if before.matches('`').count() % 2 == 0 {
                found.push((number, rest[..end].to_owned()));
            }
            rest = &rest[end..];
        }
    }
    found
}

/// The anchors of a page's headings, by the rules of GitHub: lower case, hyphens for spaces, no punctuation, and a number after
/// each repeated one.
fn anchors(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let mut slug = String::new();
        for character in title.trim().chars() {
            match character {
                ' ' => slug.push('-'),
                '-' | '_' => slug.push(character),
                _ if character.is_alphanumeric() => slug.extend(character.to_lowercase()),
                _ => {}
            }
        }
        let same = found.iter().filter(|known| {
            **known == slug
                || known.strip_prefix(&format!("{slug}-")).is_some_and(|number| number.parse::<u32>().is_ok())
        });
        match same.count() {
            0 => found.push(slug),
            number => found.push(format!("{slug}-{number}")),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{anchors, links};

    #[test]
    fn anchors_follow_the_rules_of_github() {
        let page = "# If you come from …\n## Backup and restore\n## `loom run`, and more\n```sh\n# no heading\n```\n## Limits\n### Limits\n";
        let expected = ["if-you-come-from-", "backup-and-restore", "loom-run-and-more", "limits", "limits-1"];
        assert_eq!(anchors(page), expected);
    }

    #[test]
    fn links_in_code_are_not_links() {
        let page = "[a](b.md#c), ![d](e.svg) and `[f](g)`\n```text\n[h](i)\n```\n[`j`](k)";
        let expected = [(1, "b.md#c".to_owned()), (1, "e.svg".to_owned()), (5, "k".to_owned())];
        assert_eq!(links(page), expected);
    }
}
