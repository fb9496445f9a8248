//! The page that asks for the server's token.

use maud::{DOCTYPE, html};

use super::shell::{Visit, brand, head};

/// The page. `next` is the path to continue at; `is_wrong` tells that the token given before was not the server's.
pub fn login(visit: &Visit<'_>, next: &str, is_wrong: bool) -> String {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            (head(visit, "Sign in"))
            body class="alone" {
                main id="main" class="card" {
                    h1 { (brand()) "Loom" }
                    form method="post" action="/ui/login" {
                        input type="hidden" name="next" value=(next);
                        label { "Token of the server"
                            input type="password" name="token" required autofocus autocomplete="current-password"
                                aria-invalid=[is_wrong.then_some("true")] aria-describedby="help";
                        }
                        @if is_wrong { p class="error" role="alert" { "This is not the server's token." } }
                        p id="help" class="muted" { "It is the one given to " code { "loom serve" } " with " code { "--token-file" } " or " code { "LOOM_TOKEN" } "." }
                        button class="primary" { "Sign in" }
                    }
                }
            }
        }
    };
    document.into_string()
}
