//! Drawings: well-formed, complete, and unharmed by the names in a definition.

use loom_definition::{Definition, LoadOptions, Workflow};
use loom_expression::Value;
use loom_ui::{Drawing, Graph, Links, States, embedded_svg, mermaid, standalone_svg};
use roxmltree::Document;

/// A definition with every kind of container, and handlers of errors.
const ORDER: &str = r#"{
  "triggers": {"arrives": {"type": "Request", "kind": "Http"}},
  "actions": {
    "Check": {"type": "If", "expression": {"equals": [1, 1]}, "runAfter": {},
      "actions": {"Pick": {"type": "Switch", "expression": "@triggerBody()", "runAfter": {},
        "cases": {"Gold": {"case": "gold", "actions": {"Discount": {"type": "Compose", "inputs": 5, "runAfter": {}}}}},
        "default": {"actions": {}}}},
      "else": {"actions": {"Reject": {"type": "Terminate", "inputs": {"runStatus": "Cancelled"}, "runAfter": {}}}}},
    "Lines": {"type": "Foreach", "foreach": "@range(0, 2)", "runAfter": {"Check": ["Succeeded"]},
      "actions": {"Try": {"type": "Scope", "runAfter": {}, "actions": {"Reserve": {"type": "Http", "inputs": {"method": "GET", "uri": "http://a"}, "runAfter": {}}}}}},
    "Poll": {"type": "Until", "expression": "@equals(1, 1)", "limit": {"count": 2, "timeout": "PT1M"}, "runAfter": {"Lines": ["Succeeded"]},
      "actions": {"Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Second"}}, "runAfter": {}}}},
    "Report": {"type": "Compose", "inputs": 1, "runAfter": {"Lines": ["Failed", "TimedOut"]}},
    "Log": {"type": "Compose", "inputs": 1, "runAfter": {"Poll": ["Succeeded", "Failed", "Skipped", "TimedOut"]}}
  }
}"#;

/// Names that would end a tag, an attribute, a string or a line, run a script, reorder the text or fill the page.
const HOSTILE: [&str; 9] = [
    "<script>alert(1)</script>",
    "\" onload=\"alert(1)",
    "]]></style><svg onload=alert(1)>",
    "end\u{0}\u{1b}[2J\u{202e}\u{ffff}",
    "a\"]; click a0 call alert() %%{init}%%",
    "&lt;img src=x onerror=alert(1)&gt;",
    "javascript:alert(1)//?#&=",
    "`${alert(1)}`|subgraph end",
    "漢字👩‍👩‍👧",
];

fn parsed(definition: &str) -> std::sync::Arc<Workflow> {
    let options = LoadOptions { name: Some("order".into()), ..LoadOptions::default() };
    Definition::parse(definition.as_bytes(), &options).unwrap_or_else(|error| panic!("{error}")).workflow
}

fn hostile() -> std::sync::Arc<Workflow> {
    let quoted = |name: &str| Value::from(name).to_json_text();
    let mut actions: Vec<String> = Vec::new();
    let mut before: Option<&str> = None;
    for name in HOSTILE {
        let after = before.map(|before| format!(r#"{}: ["Failed"]"#, quoted(before))).unwrap_or_default();
        actions.push(format!(
            r#"{}: {{"type": {}, "inputs": {{}}, "runAfter": {{{after}}}}}"#,
            quoted(name),
            quoted(name)
        ));
        before = Some(name);
    }
    let long = "very_".repeat(200);
    actions.push(format!(
        r#""{long}": {{"type": "Switch", "expression": "@1", "runAfter": {{}}, "cases": {{{}: {{"case": {}, "actions": {{}}}}}}}}"#,
        quoted(HOSTILE[0]),
        quoted(HOSTILE[1])
    ));
    parsed(&format!(
        r#"{{"triggers": {{{}: {{"type": "Request"}}}}, "actions": {{{}}}}}"#,
        quoted(&HOSTILE[2].repeat(2)),
        actions.join(",")
    ))
}

/// The texts of a drawing, each with the attribute `class` of its element.
fn texts<'d>(document: &'d Document<'_>) -> Vec<(&'d str, String)> {
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts
        .map(|node| {
            let text: String = node
                .descendants()
                .filter_map(|inner| inner.is_text().then(|| inner.text()).flatten())
                .collect();
            (node.attribute("class").unwrap_or_default(), text)
        })
        .collect()
}

/// A drawing in a page is HTML: attributes without a value are allowed there, and XML wants a namespace.
fn as_xml(svg: &str) -> String {
    svg.replace(" data-selected>", r#" data-selected="">"#)
}

#[test]
fn every_action_is_drawn_and_conditions_are_on_the_edges() {
    let svg = standalone_svg(&Graph::of(&parsed(ORDER)), &States::default());
    let document = Document::parse(&svg).unwrap();
    let texts = texts(&document);
    let of = |class: &str| -> Vec<&str> {
        texts.iter().filter(|(found, _)| *found == class).map(|(_, text)| text.as_str()).collect()
    };
    assert_eq!(
        of("name"),
        [
            "arrives", "Check", "Pick", "Discount", "Reject", "Lines", "Try", "Reserve", "Poll", "Pause",
            "Report", "Log"
        ]
    );
    assert_eq!(of("caption lane-label"), ["True", "False", "Gold = gold", "Default"]);
    assert_eq!(of("caption when-label"), ["Failed, TimedOut", "in any case"]);
    assert!(of("caption").contains(&"No actions"));
}

#[test]
fn a_child_is_inside_its_container_and_nothing_leaves_the_drawing() {
    let svg = standalone_svg(&Graph::of(&parsed(ORDER)), &States::default());
    let document = Document::parse(&svg).unwrap();
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok()).unwrap();
    let area = |id: &str| {
        let node = document.descendants().find(|node| node.attribute("id") == Some(id)).unwrap();
        let place = node.attribute("transform").unwrap();
        let place = place.trim_start_matches("translate(").trim_end_matches(')');
        let (x, y) = place.split_once(' ').unwrap();
        let face = node.descendants().find(|node| node.attribute("class") == Some("face")).unwrap();
        let (x, y) = (number(Some(x)), number(Some(y)));
        (x, y, x + number(face.attribute("width")), y + number(face.attribute("height")))
    };
    // By the order of the file: Check 0, Pick 1, Discount 2, Reject 3, Lines 4, Try 5, Reserve 6.
    for (outer, inner) in [("a0", "a1"), ("a1", "a2"), ("a0", "a3"), ("a4", "a5"), ("a5", "a6")] {
        let (outer, inner) = (area(outer), area(inner));
        assert!(outer.0 < inner.0 && outer.1 < inner.1 && outer.2 > inner.2 && outer.3 > inner.3);
    }
    let (check, lines) = (area("a0"), area("a4"));
    assert!(check.3 < lines.1, "an action is below the one it runs after");
    let root = document.root_element();
    let size = (number(root.attribute("width")), number(root.attribute("height")));
    assert!(check.0 >= 0.0 && check.2 <= size.0 && area("a10").3 <= size.1);
}

#[test]
fn hostile_names_are_only_text() {
    let graph = Graph::of(&hostile());
    let drawing = Drawing::of(graph.clone());
    let links = Links::To { before: "?action=", after: "#details", selected: Some(HOSTILE[0]) };
    let embedded = as_xml(&embedded_svg(&drawing, &States::default(), links).into_string());
    for svg in [standalone_svg(&graph, &States::default()), embedded] {
        let document = Document::parse(&svg).unwrap();
        let known = [
            "svg", "title", "style", "defs", "symbol", "path", "rect", "text", "tspan", "g", "a", "use",
            "circle",
        ];
        for node in document.descendants().filter(roxmltree::Node::is_element) {
            assert!(known.contains(&node.tag_name().name()), "{node:?}");
            for attribute in node.attributes() {
                assert!(!attribute.name().starts_with("on"), "{attribute:?}");
                let leads_outside = attribute.name() == "href" && !attribute.value().starts_with(['?', '#']);
                assert!(!leads_outside, "{attribute:?}");
            }
        }
        assert!(!svg.contains(['\0', '\u{1b}', '\u{202e}', '\u{ffff}']));
        let names: Vec<String> = texts(&document)
            .into_iter()
            .filter(|(class, _)| *class == "name")
            .map(|(_, text)| text)
            .collect();
        assert!(names.iter().any(|name| name.starts_with("<script>alert")), "{names:?}");
        assert!(names.iter().any(|name| name.ends_with('…') && name.len() < 60), "{names:?}");
    }
}

#[test]
fn a_flowchart_has_no_character_with_a_meaning_from_a_name() {
    let chart = mermaid(&Graph::of(&hostile()));
    for line in chart.lines() {
        let quoted: Vec<&str> = line.split('"').collect();
        assert!(quoted.len() == 1 || quoted.len() == 3, "a name ends its string: {line}");
        let harmless = |text: &str| {
            text.replace("<br>", "")
                .chars()
                .all(|character| character.is_alphanumeric() || " _-.,=#;".contains(character))
        };
        assert!(quoted.get(1).is_none_or(|text| harmless(text)), "{line}");
    }
    let chart = mermaid(&Graph::of(&parsed(ORDER)));
    assert!(
        chart.starts_with("flowchart TD\n  t0([\"arrives<br>Request\"])\n  subgraph a0[\"Check<br>If\"]\n")
    );
    assert!(
        chart.contains("    subgraph a0_1[\"False\"]\n      a3[\"Reject<br>Terminate\"]\n    end\n"),
        "{chart}"
    );
    assert!(chart.contains("  a4 -->|\"Failed, TimedOut\"| a9\n"), "{chart}");
    assert_eq!(chart.matches("subgraph").count(), chart.lines().filter(|line| line.trim() == "end").count());
}

#[test]
fn the_state_of_an_action_is_a_mark_a_description_and_a_colour() {
    let actions = r#"{"actions": [
      {"name": "Check", "type": "If", "status": "Succeeded", "occurrenceCount": 1, "durationMs": 12},
      {"name": "Lines", "type": "Foreach", "status": "Failed", "occurrenceCount": 1, "code": "ActionFailed"},
      {"name": "Reserve", "type": "Http", "status": "Succeeded", "worstStatus": "Failed", "occurrenceCount": 2, "occurrenceStatuses": {"Failed": 1, "Succeeded": 1}},
      {"name": "Poll", "type": "Until", "status": "Skipped", "occurrenceCount": 1}]}"#;
    let states = States::from_actions(&Value::from_json_str(actions).unwrap());
    let svg = standalone_svg(&Graph::of(&parsed(ORDER)), &states);
    let document = Document::parse(&svg).unwrap();
    let titles: Vec<&str> = document
        .descendants()
        .filter(|node| {
            node.has_tag_name("title")
                && node.parent().is_some_and(|parent| parent.attribute("data-state").is_some())
        })
        .filter_map(|node| node.text())
        .collect();
    assert_eq!(
        titles,
        [
            "Check, If, Succeeded, 12 ms",
            "Lines, Foreach, Failed, ActionFailed",
            "Reserve, Http, Failed, 2× · 1 failed",
            "Poll, Until, Skipped"
        ]
    );
    let marks = document.descendants().filter(|node| node.attribute("class") == Some("mark")).count();
    assert_eq!(marks, 4);
}

#[test]
fn programs_without_css_variables_get_the_light_colours() {
    let svg = standalone_svg(&Graph::of(&parsed(ORDER)), &States::default());
    assert!(svg.contains("fill: #ffffff; fill: var(--surface);"), "{}", &svg[..2000]);
    let style = svg.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>")).unwrap().0;
    assert_eq!(style.matches('{').count(), style.matches('}').count());
}
