//! Statement files (`kql/text/*.kql`) and how their placeholders are filled. No I/O: the files are compiled in.

/// Fills a statement file: drops its leading comment, replaces each `{{name}}` once with its rendered value. A value is never searched for placeholders.
///
/// The files and the calls are both ours, so a placeholder without a value is a programming error that the tests of `statements` would meet; it is left in
/// the text as it stands, which no Kusto parser accepts.
pub(crate) fn fill(file: &str, values: &[(&str, &str)]) -> String {
    let mut rest = body(file);
    let mut text = String::with_capacity(rest.len() + values.iter().map(|(_, value)| value.len()).sum::<usize>());
    while let Some(start) = rest.find("{{") {
        let (before, placeholder) = rest.split_at(start);
        text.push_str(before);
        let end = placeholder.find("}}").map_or(placeholder.len(), |end| end + 2);
        let (placeholder, after) = placeholder.split_at(end);
        let name = placeholder.trim_matches(['{', '}']);
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => text.push_str(value),
            None => text.push_str(placeholder),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// The statement without its leading comment lines and its final line feed.
fn body(file: &str) -> &str {
    let mut rest = file;
    while rest.starts_with("//") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_looks_like_a_placeholder_stays_as_it_is() {
        let text = fill("// comment\n.drop {{a}} {{b}}\n", &[("a", "{{b}}"), ("b", "x")]);
        assert_eq!(text, ".drop {{b}} x");
    }

    #[test]
    fn text_around_placeholders_is_kept_and_braces_of_a_body_too() {
        assert_eq!(fill("f() { {{body}} }", &[("body", "T")]), "f() { T }");
    }
}
