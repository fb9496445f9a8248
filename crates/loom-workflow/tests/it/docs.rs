//! The commands in README, guides and examples: each page is executed from top to bottom.
//!
//! - A block ` ```json file=order.json ` (or of another language) is written to that file.
//! - A block ` ```sh ` is run, in a directory of the page's own that holds a copy of `examples/`. It must succeed.
//! - `loom serve` runs in parallel with the lines that follow, on a free port instead of 7070; `kill` ends it.
//! - `RUN` stands for the newest run of that server, or of `.loom` when there is none.
//! - A comment `<!-- exit code: 3 -->` before a block names the code of its last command; `<!-- not run: why -->` excepts a block.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::repository;

/// A block between two fences.
struct Block {
    line: usize,
    info: String,
    text: String,
    /// The comment in the line before it.
    remark: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut remark = String::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(info) = line.trim().strip_prefix("```") {
            // A block in a list is indented, and its lines with it.
            let indent = line.len() - line.trim_start().len();
            let inside = lines
                .by_ref()
                .map(|(_, line)| line.get(indent..).unwrap_or_else(|| line.trim_start()))
                .take_while(|line| line.trim() != "```");
            let text = inside.collect::<Vec<_>>().join("\n");
            found.push(Block {
                line: number + 1,
                info: info.to_owned(),
                text,
                remark: std::mem::take(&mut remark),
            });
        } else if !line.trim().is_empty() {
            let comment = line.trim().strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->"));
            comment.unwrap_or_default().trim().clone_into(&mut remark);
        }
    }
    found
}

fn names_a_run(line: &str) -> bool {
    line.split(|character: char| !character.is_alphanumeric()).any(|word| word == "RUN")
}

/// A server that a page has started.
struct Served {
    child: Child,
    /// `host:port`.
    address: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have been killed by the page.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A page that is being executed.
struct Page {
    directory: PathBuf,
    server: Option<Served>,
}

/// `loom` as a page calls it: commands for a server use the server that the page has started.
const PRELUDE: &str = r#"set -eu
loom() {
    case "$1:$ADDRESS: $* " in
        *" --data "* | *" --server "* | *::*) command loom "$@" ;;
        memory:* | runs:* | tokens:* | workflows:* | resilience:*) group=$1; shift; command loom "$group" --server "http://$ADDRESS" "$@" ;;
        *) command loom "$@" ;;
    esac
}
"#;

impl Page {
    fn command(&self, script: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_loom"));
        let directory = binary.parent().expect("the binary is in a directory").display();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("PATH='{directory}':$PATH\n{script}")])
            .current_dir(&self.directory)
            .env("HOME", &self.directory)
            .env_remove("XDG_CONFIG_HOME")
            .env("NO_COLOR", "1")
            .env("LOOM_ADDR", "127.0.0.1:0")
            .env("ADDRESS", self.server.as_ref().map_or("", |server| &server.address))
            .stdin(Stdio::null());
        command
    }

    fn serve(&mut self, line: &str) -> Result<(), String> {
        // The previous server has released its directory once it has exited.
        self.server = None;
        let line = line.trim_end_matches('&').replace(":7070", ":0");
        let mut child = self
            .command(&format!("exec {line}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut errors = child.stderr.take().expect("it is piped");
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).ok();
            text
        });
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut first = String::new();
        output.read_line(&mut first).map_err(|error| error.to_string())?;
        let Some(address) = first.trim().strip_prefix("listening on http://") else {
            child.kill().ok();
            child.wait().ok();
            return Err(format!("`{line}` does not listen: {first}{}", errors.join().unwrap_or_default()));
        };
        let address = address.replace("0.0.0.0", "127.0.0.1");
        // The output must be read, or the server would block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        self.server = Some(Served { child, address });
        Ok(())
    }

    fn kill(&mut self, line: &str) -> Result<(), String> {
        let server = self.server.as_mut().ok_or("there is no server to kill")?;
        let signal = match line.split_whitespace().find(|word| word.starts_with('-')) {
            Some("-9") => Signal::KILL,
            Some("-HUP") => Signal::HUP,
            Some(other) => return Err(format!("this test knows no signal {other}")),
            None => Signal::TERM,
        };
        kill_process(Pid::from_child(&server.child), signal).map_err(|error| error.to_string())?;
        if signal != Signal::HUP {
            server.child.wait().map_err(|error| error.to_string())?;
            self.server = None;
        }
        Ok(())
    }

    /// Runs lines of shell, and returns the code of the last one.
    fn shell(&self, lines: &str) -> Result<i32, String> {
        if lines.trim().is_empty() {
            return Ok(0);
        }
        let mut script = lines.replace("cargo run -p loom-workflow -- ", "loom ");
        if let Some(Served { address, .. }) = &self.server {
            script = script.replace("127.0.0.1:7070", address).replace("localhost:7070", address);
        }
        if names_a_run(&script) {
            let place = if self.server.is_some() { "" } else { "--data .loom" };
            let listed = self.command(&format!("{PRELUDE}loom runs list --json {place}")).output();
            let listed = listed.map_err(|error| error.to_string())?.stdout;
            let listed = String::from_utf8_lossy(&listed).into_owned();
            let run = listed.split("\"id\"").nth(1).and_then(|rest| rest.split('"').nth(1));
            let run = run.ok_or_else(|| format!("there is no run yet: {listed}"))?;
            script = script.replace(" RUN", &format!(" {run}")).replace("/RUN", &format!("/{run}"));
        }
        let output = self.command(&format!("{PRELUDE}{script}")).output();
        let output = output.map_err(|error| error.to_string())?;
        let code = output.status.code().unwrap_or(-1);
        if code != 0 {
            let reported = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Err(format!(
                "exit code {code}\n{}{}",
                reported(&output.stdout),
                reported(&output.stderr)
            ));
        }
        Ok(code)
    }

    fn run(&mut self, text: &str) -> Result<(), String> {
        let mut gathered = String::new();
        let text = text.replace("\\\n", " ");
        for line in text.lines() {
            let serve = line.starts_with("loom serve");
            if names_a_run(line) {
                // The lines before it may start that run.
                self.shell(&std::mem::take(&mut gathered))?;
            }
            if !serve && !line.starts_with("kill ") {
                gathered.push_str(line);
                gathered.push('\n');
                continue;
            }
            self.shell(&std::mem::take(&mut gathered))?;
            if serve { self.serve(line)? } else { self.kill(line)? }
        }
        self.shell(&gathered).map(|_| ())
    }
}

/// Executes one page. Returns the failures, and how many blocks were run and excepted.
fn follow(shown: &str) -> (Vec<String>, usize, usize) {
    let text = fs::read_to_string(repository(shown)).expect("the page can be read");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs").join(shown.replace(['/', '.'], "-"));
    fs::remove_dir_all(&directory).ok();
    copy(Path::new(&repository("examples")), &directory.join("examples"));
    let mut page = Page { directory, server: None };
    let (mut findings, mut run, mut excepted) = (Vec::new(), 0, 0);
    for block in blocks(&text) {
        let at = format!("{shown}:{}", block.line);
        if let Some((_, name)) = block.info.split_once(" file=") {
            let path = page.directory.join(name);
            fs::create_dir_all(path.parent().expect("it is in the page's directory"))
                .expect("it can be made");
            fs::write(path, format!("{}\n", block.text)).expect("the file can be written");
        }
        if block.info != "sh" {
            continue;
        }
        if let Some(why) = block.remark.strip_prefix("not run:") {
            excepted += 1;
            if why.trim().is_empty() {
                findings.push(format!("{at}: a block that is not run says why"));
            }
            continue;
        }
        run += 1;
        let expected =
            block.remark.strip_prefix("exit code:").map(|code| format!("exit code {}\n", code.trim()));
        match (page.run(&block.text), expected) {
            (Ok(()), None) => {}
            (Ok(()), Some(code)) => findings.push(format!("{at}: succeeded, expected {code}")),
            (Err(reported), Some(code)) if reported.starts_with(&code) => {}
            (Err(reported), _) => findings.push(format!("{at}: {reported}")),
        }
    }
    (findings, run, excepted)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the directory can be made");
    for entry in fs::read_dir(from).expect("it can be listed") {
        let entry = entry.expect("it can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the file can be copied");
        }
    }
}

/// README, the guides, and the pages of the examples.
fn pages() -> Vec<String> {
    let mut found = vec!["README.md".to_owned()];
    for directory in ["docs", "docs/guide", "examples"] {
        for entry in fs::read_dir(repository(directory)).expect("it can be listed") {
            let name = entry.expect("it can be read").file_name().into_string().expect("names are UTF-8");
            let page = if directory == "examples" {
                format!("{directory}/{name}/README.md")
            } else {
                format!("{directory}/{name}")
            };
            let path = repository(&page);
            let path = Path::new(&path);
            if path.is_file() && path.extension().is_some_and(|extension| extension == "md") {
                found.push(page);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_command_in_a_page_works() {
    let pages = pages();
    let ended: Vec<_> = std::thread::scope(|scope| {
        let tasks: Vec<_> = pages.iter().map(|page| scope.spawn(|| follow(page))).collect();
        tasks.into_iter().map(|task| task.join().expect("a page ends")).collect()
    });
    let findings: Vec<&str> = ended.iter().flat_map(|(found, ..)| found.iter().map(String::as_str)).collect();
    assert!(findings.is_empty(), "{} blocks fail\n{}", findings.len(), findings.join("\n"));
    let run: usize = ended.iter().map(|(_, run, _)| run).sum();
    let excepted: usize = ended.iter().map(|(.., excepted)| excepted).sum();
    assert!(run > 40 && excepted * 5 < run, "{run} blocks were run, {excepted} were not");
}

#[test]
fn a_command_in_a_page_is_in_a_block_that_is_run() {
    let programs = ["loom ", "$ ", "curl ", "cargo ", "sqlite3 ", "kill ", "openssl "];
    let mut findings = Vec::new();
    for shown in pages() {
        let text = fs::read_to_string(repository(&shown)).expect("the page can be read");
        let mut fence: Option<String> = None;
        for (index, line) in text.lines().enumerate() {
            if let Some(info) = line.trim().strip_prefix("```") {
                fence = fence.is_none().then(|| info.to_owned());
                continue;
            }
            let command = match fence.as_deref() {
                None => line.strip_prefix("    "),
                Some("" | "bash" | "shell" | "console") => Some(line),
                Some(_) => None,
            };
            if command.is_some_and(|command| {
                programs.iter().any(|program| command.trim_start().starts_with(program))
            }) {
                findings.push(format!("{shown}:{}: {line}", index + 1));
            }
        }
    }
    assert!(findings.is_empty(), "use a block ```sh for commands\n{}", findings.join("\n"));
}
