//! The corpus: everyday texts that must be read and printed, and hostile ones that must be refused with the message in their first line.

use std::{fs, path::Path};

use kql::syntax::parser::parse_query;

fn texts(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new("tests").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "kql"));
    files.sort();
    files.into_iter().map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

pub(super) fn accepted() -> Vec<(String, String)> {
    texts("corpus")
}

pub(super) fn refused() -> Vec<(String, String)> {
    texts("corpus/refused")
}

#[test]
fn every_accepted_text_survives_printing() {
    let texts = accepted();
    assert!(texts.len() >= 60, "{} texts", texts.len());
    for (path, text) in texts {
        let tree = parse_query(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let printed = tree.to_string();
        let again = parse_query(&printed).unwrap_or_else(|error| panic!("{path}: {printed}: {error}"));
        assert_eq!(again, tree, "{path}: {printed}");
        assert_eq!(again.to_string(), printed, "{path}");
    }
}

#[test]
fn every_refused_text_is_refused_with_its_message() {
    let texts = refused();
    assert!(texts.len() >= 20, "{} texts", texts.len());
    for (path, text) in texts {
        let expected = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("// "))
            .unwrap_or_else(|| panic!("{path}: no message"));
        let error = parse_query(&text).expect_err(&path);
        assert_eq!(error.to_string(), expected, "{path}");
    }
}
