//! Names that Kusto knows things by: parsed once at the edge, refused where Kusto refuses them, never repaired. No I/O.
//!
//! Source of the rule: Kusto's "Entity names" page. An identifier has 1 to 1024 characters of letters, digits, `_`, space, `.` and `-`; names that
//! start or end with two underscores are reserved. All are case-sensitive except database names, which compare folded here.

use std::{borrow::Cow, cmp::Ordering, fmt, hash, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{literal, secrets};

/// The longest identifier, in characters.
pub const MAX_NAME_CHARS: usize = 1024;

/// Why a text is not a name. The message names the value and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("the {what} name is empty: a Kusto name has 1 to {MAX_NAME_CHARS} characters")]
    Empty {
        /// `table`, `database`, ...
        what: &'static str,
    },
    /// Longer than [`MAX_NAME_CHARS`].
    #[error("the {what} name {value:?} has {chars} characters: a Kusto name has at most {MAX_NAME_CHARS}")]
    TooLong {
        /// `table`, `database`, ...
        what: &'static str,
        /// The refused text.
        value: Refused,
        /// Its length.
        chars: usize,
    },
    /// A character outside the documented set.
    #[error(
        "the {what} name {value:?} holds {character:?}: a Kusto name holds letters, digits, '_', ' ', '.' and '-' only"
    )]
    BadCharacter {
        /// `table`, `database`, ...
        what: &'static str,
        /// The refused text.
        value: Refused,
        /// The first character that is not allowed.
        character: char,
    },
    /// Kusto's own names.
    #[error("the {what} name {value:?} is reserved: a Kusto name neither starts nor ends with '__'")]
    Reserved {
        /// `table`, `database`, ...
        what: &'static str,
        /// The refused text.
        value: Refused,
    },
}

/// How much of a stranger's text a message has.
const SHOWN_CHARS: usize = 64;

/// The beginning of a refused text, as it was given. Of a heartbeat's refusals few are told, so only who tells one pays for looking through it.
#[derive(Clone, PartialEq, Eq)]
pub struct Refused(String);

impl Refused {
    fn new(value: &str) -> Self {
        // One character more than is looked at: else it would not show that the text goes on.
        Self(value.chars().take(secrets::LOOKED_AT * SHOWN_CHARS + 1).collect())
    }
}

impl fmt::Debug for Refused {
    /// Without secrets, escaped and cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut head, is_cut) = secrets::beginning(&self.0, SHOWN_CHARS);
        if is_cut && !head.ends_with('…') {
            head.push('…');
        }
        fmt::Debug::fmt(&head, f)
    }
}

fn check(what: &'static str, value: &str) -> Result<(), NameError> {
    if value.is_empty() {
        return Err(NameError::Empty { what });
    }
    if let Some(character) = value.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '_' | ' ' | '.' | '-'))) {
        return Err(NameError::BadCharacter { what, value: Refused::new(value), character });
    }
    let chars = value.chars().count();
    if chars > MAX_NAME_CHARS {
        return Err(NameError::TooLong { what, value: Refused::new(value), chars });
    }
    if value.starts_with("__") || value.ends_with("__") {
        return Err(NameError::Reserved { what, value: Refused::new(value) });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Accepts what Kusto accepts.
            ///
            /// # Errors
            /// [`NameError`] names the value and the rule it breaks.
            pub fn new(value: impl Into<String>) -> Result<Self, NameError> {
                let value = value.into();
                check($what, &value)?;
                Ok(Self(value.into()))
            }

            /// The name as it was given, unquoted.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name in brackets and quotes, `['name']`, which Kusto reads back as exactly this name.
            pub fn quoted(&self) -> String {
                literal::bracketed(&self.0)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(value: &str) -> Result<Self, NameError> {
                Self::new(value)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }

        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.key() == other.key()
            }
        }
        impl Eq for $type {}
        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $type {
            fn cmp(&self, other: &Self) -> Ordering {
                self.key().cmp(&other.key())
            }
        }
        impl hash::Hash for $type {
            fn hash<H: hash::Hasher>(&self, state: &mut H) {
                self.key().hash(state);
            }
        }
    };
}

macro_rules! case_sensitive {
    ($($type:ident),*) => {$(
        impl $type {
            fn key(&self) -> Cow<'_, str> {
                Cow::Borrowed(&self.0)
            }
        }
    )*};
}

name!(
    /// A database. Compares without regard to case, as Kusto does; keeps the spelling it was given.
    DatabaseName,
    "database"
);
name!(
    /// A table, or a view that is queried like one.
    TableName,
    "table"
);
name!(
    /// A column.
    ColumnName,
    "column"
);
name!(
    /// A stored function.
    FunctionName,
    "function"
);
name!(
    /// A stored entity group.
    EntityGroupName,
    "entity group"
);
case_sensitive!(TableName, ColumnName, FunctionName, EntityGroupName);

impl DatabaseName {
    /// The form in which two spellings of one database are equal.
    pub fn key(&self) -> Cow<'_, str> {
        if self.0.chars().any(char::is_uppercase) { Cow::Owned(self.0.to_lowercase()) } else { Cow::Borrowed(&self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_documented_set_are_kept_as_they_are() {
        for name in ["Requests", "a b", "a.b-c_d", "Größe", "_x", "9lives", " "] {
            assert_eq!(TableName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_outside_the_documented_set_are_refused_and_never_repaired() {
        let hostile = [
            "a'b",
            "a\"b",
            "a\nb",
            "a\\b",
            "a]b",
            "a;b",
            "a|b",
            "a//b",
            "a\u{202e}b",
            "a\u{2028}b",
            "a\0b",
            "a*",
            "x'] | .drop table y",
        ];
        for name in hostile {
            assert!(matches!(TableName::new(name), Err(NameError::BadCharacter { .. })), "{name:?}");
        }
        assert!(matches!(TableName::new(""), Err(NameError::Empty { .. })));
        assert!(matches!(TableName::new("__internal"), Err(NameError::Reserved { .. })));
        assert!(matches!(TableName::new("internal__"), Err(NameError::Reserved { .. })));
        assert!(matches!(TableName::new("é".repeat(1025)), Err(NameError::TooLong { chars: 1025, .. })));
        assert!(TableName::new("é".repeat(1024)).is_ok());
    }

    #[test]
    fn a_refusal_names_the_value_and_the_rule() {
        let error = TableName::new("a\nb").unwrap_err().to_string();
        assert_eq!(
            error,
            r#"the table name "a\nb" holds '\n': a Kusto name holds letters, digits, '_', ' ', '.' and '-' only"#
        );
    }

    #[test]
    fn a_refusal_is_told_without_secrets() {
        for (name, shown) in [
            ("https://me:hunter2@x.example?sig=hunter2", "\"https://…@x.example?…\""),
            ("Password=hunter2", "\"Password=…\""),
        ] {
            let error = TableName::new(name).unwrap_err();
            assert!(error.to_string().contains(shown), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn the_beginning_of_a_refused_name_is_kept_and_looked_through_only_when_it_is_told() {
        let name = format!("Password=hunter2{}", "é".repeat(1_000_000));
        let Err(NameError::BadCharacter { value: Refused(kept), .. }) = TableName::new(name.as_str()) else {
            panic!("{name:.100}")
        };
        assert_eq!(kept.chars().count(), secrets::LOOKED_AT * SHOWN_CHARS + 1);
        assert!(name.starts_with(&kept), "{kept}");
    }

    #[test]
    fn a_refused_text_that_is_cut_says_so_and_no_other_does() {
        let of = |address: &str| format!("{address}{}", "a".repeat(SHOWN_CHARS - address.len()));
        let short = &of("https://x/")[..SHOWN_CHARS - 2];
        for (name, shown) in [
            (of("https://x/"), of("https://x/")),
            (of("https://x/") + "a", of("https://x/") + "…"),
            (of("https://x/?"), "https://x/?…".to_owned()),
            (format!("{short}?sig=hunter2"), format!("{short}?…")),
            (format!("https://{}", "a".repeat(600)), "https://…".to_owned()),
        ] {
            let error = TableName::new(name).unwrap_err().to_string();
            assert!(error.contains(&format!("{shown:?}")), "{error}");
        }
    }

    #[test]
    fn database_names_compare_without_case_and_tables_with_it() {
        assert_eq!(DatabaseName::new("Logs").unwrap(), DatabaseName::new("LOGS").unwrap());
        assert_ne!(TableName::new("Logs").unwrap(), TableName::new("LOGS").unwrap());
    }
}
