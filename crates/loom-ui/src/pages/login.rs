//! The page that asks for a token.

use maud::{DOCTYPE, html};

use super::shell::{Visit, brand, head};

/// The page. `next` is the path to continue at; `code` is that of a login link, which replaces the token; `is_wrong` tells that the token given before was not valid.
pub fn login(visit: &Visit<'_>, next: &str, code: &str, is_wrong: bool) -> String {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            (head(visit, "Sign in"))
            body class="alone" {
                main id="main" class="card" {
                    h1 { (brand()) "Loom" }
                    form method="post" action="/ui/login" {
                        input type="hidden" name="next" value=(next);
                        @if code.is_empty() {
                            label { "Token"
                                input type="password" name="token" required autofocus autocomplete="current-password"
                                    aria-invalid=[is_wrong.then_some("true")] aria-describedby="help";
                            }
                            @if is_wrong { p class="error" role="alert" { "This token is not valid." } }
                            p id="help" class="muted" { "The server's own, given with " code { "--token-file" } " or " code { "LOOM_TOKEN" } ", or one that " code { "loom tokens create" } " printed." }
                        } @else {
                            input type="hidden" name="code" value=(code);
                            p { "This link signs you in with full access. It works once." }
                        }
                        label class="check" { input type="checkbox" name="readOnly" value="true"; span { "Only look: change nothing in this session" } }
                        button class="primary" { "Sign in" }
                    }
                }
            }
        }
    };
    document.into_string()
}
