//! The infix operators: how they are spelt, and how tightly they bind. Pure tables, shared by parser and printer.
//!
//! Precedence, as Microsoft's parser has it, tightest first: the string operators (`=~`, `has`, ...); `* / %`; `+ -`; `< <= > >=`; `== != <> in has_any
//! between`; `and`; `or`. A sign binds tighter than all of them.

use super::ast::{BinaryOp, InOp};

/// How tightly an operator binds; [`Self::chains`] says whether two of a level may stand side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Or,
    And,
    Equality,
    Relation,
    Sum,
    Product,
    Text,
}

impl Level {
    pub(super) fn chains(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Sum | Self::Product)
    }

    pub(super) fn of(op: BinaryOp) -> Self {
        match op {
            BinaryOp::Or => Self::Or,
            BinaryOp::And => Self::And,
            BinaryOp::Equal | BinaryOp::NotEqual => Self::Equality,
            BinaryOp::Less | BinaryOp::LessOrEqual | BinaryOp::Greater | BinaryOp::GreaterOrEqual => Self::Relation,
            BinaryOp::Add | BinaryOp::Subtract => Self::Sum,
            BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Modulo => Self::Product,
            _ => Self::Text,
        }
    }
}

/// The operators that are one token, with their spellings; the first is what the printer prints.
pub(super) const BINARY: &[(BinaryOp, &str)] = &[
    (BinaryOp::Or, "or"),
    (BinaryOp::And, "and"),
    (BinaryOp::Equal, "=="),
    (BinaryOp::NotEqual, "!="),
    (BinaryOp::NotEqual, "<>"),
    (BinaryOp::Less, "<"),
    (BinaryOp::LessOrEqual, "<="),
    (BinaryOp::Greater, ">"),
    (BinaryOp::GreaterOrEqual, ">="),
    (BinaryOp::EqualTilde, "=~"),
    (BinaryOp::NotEqualTilde, "!~"),
    (BinaryOp::Has, "has"),
    (BinaryOp::NotHas, "!has"),
    (BinaryOp::HasCs, "has_cs"),
    (BinaryOp::NotHasCs, "!has_cs"),
    (BinaryOp::HasPrefix, "hasprefix"),
    (BinaryOp::NotHasPrefix, "!hasprefix"),
    (BinaryOp::HasSuffix, "hassuffix"),
    (BinaryOp::NotHasSuffix, "!hassuffix"),
    (BinaryOp::Contains, "contains"),
    (BinaryOp::NotContains, "!contains"),
    (BinaryOp::ContainsCs, "contains_cs"),
    (BinaryOp::NotContainsCs, "!contains_cs"),
    (BinaryOp::StartsWith, "startswith"),
    (BinaryOp::NotStartsWith, "!startswith"),
    (BinaryOp::StartsWithCs, "startswith_cs"),
    (BinaryOp::NotStartsWithCs, "!startswith_cs"),
    (BinaryOp::EndsWith, "endswith"),
    (BinaryOp::NotEndsWith, "!endswith"),
    (BinaryOp::EndsWithCs, "endswith_cs"),
    (BinaryOp::NotEndsWithCs, "!endswith_cs"),
    (BinaryOp::MatchesRegex, "matches regex"),
    (BinaryOp::Add, "+"),
    (BinaryOp::Subtract, "-"),
    (BinaryOp::Multiply, "*"),
    (BinaryOp::Divide, "/"),
    (BinaryOp::Modulo, "%"),
];

/// The operators with a list on their right.
pub(super) const IN: &[(InOp, &str)] = &[
    (InOp::In, "in"),
    (InOp::NotIn, "!in"),
    (InOp::InTilde, "in~"),
    (InOp::NotInTilde, "!in~"),
    (InOp::HasAny, "has_any"),
    (InOp::HasAll, "has_all"),
];
