use super::*;

fn rendered(template: &str, content: &str) -> Result<String, Error> {
    let content = Value::from_json_str(content).expect("the test's content is JSON");
    render(template, &content, Output::Text).map(|made| made.as_str().unwrap_or_default().to_owned())
}

#[track_caller]
fn check(template: &str, content: &str, expected: &str) {
    assert_eq!(rendered(template, content).as_deref(), Ok(expected), "{template}");
}

#[test]
fn the_template_of_the_public_guide_renders_its_devices() {
    let template = "{%- assign deviceList = content.devices | Split: ', ' -%}\n{\n  \"fullName\": \"{{content.firstName | Append: ' ' \
        | Append: content.lastName}}\",\n  \"firstNameUpperCase\": \"{{content.firstName | Upcase}}\",\n  \"phoneAreaCode\": \
        \"{{content.phone | Slice: 1, 3}}\",\n  \"devices\": [\n  {%- for device in deviceList -%}\n    {%- if \
        forloop.Last == true -%}\n    \"{{device}}\"\n    {%- else -%}\n    \"{{device}}\",\n    {%- endif -%}\n  \
        {%- endfor -%}\n  ]\n}";
    let content = r#"{"devices": "Surface, Mobile, Desktop computer, Monitors", "firstName": "Dean", "lastName":
        "Ledet", "phone": "(111)0001111"}"#;
    let content = Value::from_json_str(content).expect("JSON");
    let expected = r#"{"fullName": "Dean Ledet", "firstNameUpperCase": "DEAN", "phoneAreaCode": "111",
        "devices": ["Surface", "Mobile", "Desktop computer", "Monitors"]}"#;
    let expected = Value::from_json_str(expected).expect("JSON");
    assert_eq!(render(template, &content, Output::Json), Ok(expected));
}

#[test]
fn unknown_names_render_as_nothing() {
    check(
        "[{{ content.a.b.c }}|{{ missing }}|{% if content.x %}yes{% else %}no{% endif %}]",
        r#"{"a": 1}"#,
        "[||no]",
    );
    check(
        "{% for l in content.lines %}[{{ l.nope }}{{ l.sku }}]{% endfor %}",
        r#"{"lines": [{"sku": "A"}]}"#,
        "[A]",
    );
}

#[test]
fn loops_know_where_they_are_in_both_spellings() {
    let content = r#"{"n": [1, 2, 3]}"#;
    check(
        "{% for i in content.n %}{{ forloop.Index }}{{ forloop.index0 }}{% unless forloop.Last %},{% endunless %}{% endfor %}",
        content,
        "10,21,32",
    );
    check("{% for i in content.n limit:2 offset:1 reversed %}{{ i }}{% endfor %}", content, "32");
    check("{% for i in (1..3) %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", content, "13");
    check("{% for i in content.none %}x{% else %}none{% endfor %}", content, "none");
    check(
        "{% for p in content %}{{ p.Key }}={{ p.Value }};{% endfor %}",
        r#"{"a": 1, "b": "x"}"#,
        "a=1;b=x;",
    );
    check(
        "{% for a in content.n %}{% for b in content.n %}{% if b == 2 %}{% break %}{% endif %}{{a}}{{b}} {% endfor %}{% endfor %}",
        content,
        "11 21 31 ",
    );
}

#[test]
fn filters_have_dotliquids_names_and_semantics() {
    let content = r#"{"s": "hello big world", "n": 7, "f": 2.5, "a": [3, 1, 2], "o": [{"k": "b", "v": 1}, {"k": "A", "v": 2}],
        "t": "2026-11-30T08:05:09Z", "nil": null}"#;
    for (template, expected) in [
        ("{{ content.s | Capitalize }}", "Hello Big World"),
        ("{{ content.s | Size }}", "15"),
        ("{{ content.s | Slice: -5, 3 }}", "wor"),
        ("{{ content.s | Truncate: 8 }}", "hello..."),
        ("{{ content.s | TruncateWords: 2 }}", "hello big..."),
        ("{{ content.s | Replace: 'big', 'small' | Remove: 'hello ' }}", "small world"),
        ("{{ content.n | Plus: 3 }}", "10"),
        ("{{ content.n | DividedBy: 2 }}", "3"),
        ("{{ content.n | DividedBy: 2.0 }}", "3.5"),
        ("{{ content.n | Times: content.f }}", "17.5"),
        ("{{ content.n | Modulo: 4 }}", "3"),
        ("{{ 0.1 | Plus: 0.2 }}", "0.3"),
        ("{{ content.f | Round }}", "2"),
        ("{{ 2.675 | Round: 2 }}", "2.68"),
        ("{{ content.f | Ceil }}{{ content.f | Floor }}", "32"),
        ("{{ content.a | Sort | Join: '-' }}", "1-2-3"),
        ("{{ content.o | Sort: 'k' | Map: 'v' | Join: ',' }}", "2,1"),
        ("{{ content.o | Where: 'k', 'b' | Size }}", "1"),
        ("{{ content.a | First }}{{ content.a | Last }}", "32"),
        ("{{ content.t | Date: 'yyyy-MM-dd HH:mm' }}", "2026-11-30 08:05"),
        ("{{ content.s | Date: 'yyyy' }}", "hello big world"),
        ("{{ content.nil | Default: 'x' }}{{ content.s | Upcase | Default: 'x' | Size }}", "x15"),
        ("{{ 'a b&c' | UrlEncode }} {{ '<x>' | Escape }}", "a+b%26c &lt;x&gt;"),
        ("{{ 'héy' | Base64Encode | Base64Decode }}", "héy"),
        ("{{ 'a,,b' | Split: ',' | Size }}", "2"),
        ("{% capture x %}{{ content.n }}!{% endcapture %}{{ x }}", "7!"),
        ("{% case content.n %}{% when 7 %}seven{% else %}other{% endcase %}", "seven"),
        ("{% if content.s contains 'big' and content.n > 3 %}y{% endif %}", "y"),
        ("{% raw %}{{ x }}{% endraw %}{% comment %}c{% endcomment %}", "{{ x }}"),
    ] {
        check(template, content, expected);
    }
}

#[test]
fn a_filter_in_rubys_spelling_gets_a_suggestion() {
    let error = rendered("{{ content.s | divided_by: 2 }}", "{}").expect_err("unknown filter");
    assert_eq!(error.code, "LiquidTemplateInvalid");
    assert!(error.message.contains("did you mean 'DividedBy'"), "{error}");
}

#[test]
fn errors_name_what_is_wrong() {
    let error = rendered("{% for x content %}{% endfor %}", "{}").expect_err("no `in`");
    assert_eq!(error.code, "LiquidTemplateInvalid");
    let error = rendered("{{ 1 | DividedBy: 0 }}", "{}").expect_err("division");
    assert_eq!(
        (error.code, error.message.contains("division by zero")),
        ("LiquidTransformFailed", true),
        "{error}"
    );
    let error = render("{ not json", &Value::NULL, Output::Json).expect_err("no JSON");
    assert_eq!(error.code, "LiquidOutputInvalid");
    let error = rendered("{% for a in (1..9999999) %}x{% endfor %}", "{}").expect_err("too many iterations");
    assert_eq!(error.code, "LiquidTransformFailed");
}
