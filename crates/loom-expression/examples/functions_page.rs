//! Prints the reference page of all functions.

fn main() {
    print!("{}", loom_expression::reference_page());
}
