use super::*;

fn sheet(body: &str) -> String {
    format!(
        "<xsl:stylesheet version='1.0' xmlns:xsl='http://www.w3.org/1999/XSL/Transform'><xsl:output \
         omit-xml-declaration='yes'/>{body}</xsl:stylesheet>"
    )
}

#[track_caller]
fn code_of(stylesheet: &str, part: &str) -> &'static str {
    let error = transform(stylesheet, "<r><a/></r>", &[], &|_| None).expect_err(stylesheet);
    assert!(error.message.contains(part), "{error}");
    error.code
}

#[test]
fn the_caller_passes_parameters() {
    let stylesheet = sheet(
        "<xsl:param name='p' select=\"'default'\"/><xsl:template match='/'><o><xsl:value-of select='$p'/></o></xsl:template>",
    );
    let made = |parameters: &[(String, String)]| {
        transform(&stylesheet, "<r/>", parameters, &|_| None).map(|made| made.text)
    };
    assert_eq!(made(&[]).as_deref(), Ok("<o>default</o>"));
    assert_eq!(made(&[("p".to_owned(), "7".to_owned())]).as_deref(), Ok("<o>7</o>"));
}

#[test]
fn stylesheets_include_and_import_others() {
    let other =
        sheet("<xsl:template match='a'><other/></xsl:template><xsl:template name='n'>named</xsl:template>");
    let load = |href: &str| (href == "other.xsl").then(|| other.clone());
    let included = sheet(
        "<xsl:include href='other.xsl'/><xsl:template match='/'><o><xsl:apply-templates/><xsl:call-template name='n'/></o></xsl:template>",
    );
    let made = transform(&included, "<r><a/></r>", &[], &load).map(|made| made.text);
    assert_eq!(made.as_deref(), Ok("<o><other/>named</o>"));
    // The importing stylesheet takes precedence over an imported one, however specific its templates are.
    let imported = sheet(
        "<xsl:import href='other.xsl'/><xsl:template match='*' priority='-5'><own><xsl:apply-templates/></own></xsl:template>",
    );
    let made = transform(&imported, "<r><a/></r>", &[], &load).map(|made| made.text);
    assert_eq!(made.as_deref(), Ok("<own><own/></own>"));
    assert_eq!(code_of(&included, "'other.xsl'"), "InvalidXslt");
}

#[test]
fn errors_name_the_unsupported_feature() {
    assert_eq!(code_of(&sheet("<xsl:decimal-format/>"), "xsl:decimal-format"), "InvalidXslt");
    let script = "<xsl:stylesheet version='1.0' xmlns:xsl='http://www.w3.org/1999/XSL/Transform' \
        xmlns:msxsl='urn:schemas-microsoft-com:xslt'><msxsl:script>x</msxsl:script></xsl:stylesheet>";
    assert_eq!(code_of(script, "msxsl:script"), "InvalidXslt");
    let call = sheet("<xsl:template match='/'><xsl:value-of select='document(1)'/></xsl:template>");
    assert_eq!(code_of(&call, "document"), "XsltFailed");
    let user = "<xsl:stylesheet version='1.0' xmlns:xsl='http://www.w3.org/1999/XSL/Transform' xmlns:u='urn:u'>\
        <xsl:template match='/'><xsl:value-of select='u:Convert(1)'/></xsl:template></xsl:stylesheet>";
    assert_eq!(code_of(user, "u:Convert"), "XsltFailed");
}

#[test]
fn invalid_and_endless_stylesheets_fail() {
    assert_eq!(code_of("<a/>", "must be xsl:stylesheet"), "InvalidXslt");
    assert_eq!(code_of("no xml", "not valid"), "InvalidXslt");
    assert_eq!(code_of(&sheet("<xsl:template match='a['/>"), "'a['"), "InvalidXslt");
    assert_eq!(
        code_of(&sheet("<xsl:template match='/'><xsl:value-of select='$x'/></xsl:template>"), "$x"),
        "XsltFailed"
    );
    let endless = sheet("<xsl:template match='/' name='t'><xsl:call-template name='t'/></xsl:template>");
    assert_eq!(code_of(&endless, "levels deep"), "XsltFailed");
    let circle = sheet("<xsl:template match='*'><xsl:apply-templates select='.'/></xsl:template>");
    assert_eq!(code_of(&circle, "levels deep"), "XsltFailed");
    let ended = sheet(
        "<xsl:template match='/'><xsl:message terminate='yes'>no <xsl:value-of select=\"'more'\"/></xsl:message></xsl:template>",
    );
    assert_eq!(code_of(&ended, "no more"), "XsltFailed");
    let error = transform(&sheet(""), "<r>", &[], &|_| None).expect_err("content");
    assert_eq!(error.code, "InvalidXml");
}

#[test]
fn deep_stylesheets_run_on_a_small_stack() {
    let deep = sheet(
        "<xsl:template match='/'><xsl:call-template name='t'><xsl:with-param name='n' select='390'/></xsl:call-template></xsl:template>\
        <xsl:template name='t'><xsl:param name='n'/><xsl:choose><xsl:when test='$n &gt; 0'><x><xsl:call-template name='t'><xsl:with-param name='n' select='$n - 1'/></xsl:call-template></x></xsl:when></xsl:choose></xsl:template>",
    );
    let run = move || transform(&deep, "<r/>", &[], &|_| None).map(|made| made.text.len());
    // The stack size of a thread in the runtime's blocking pool.
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run).expect("a thread");
    assert!(thread.join().expect("no overflow").is_ok());
}
