//! Which functions give a value and no table, by their text: a federated function of such a one would fail at every call. Pure; for those functions whose columns
//! Kusto does not tell.

use std::collections::BTreeMap;

use kql::syntax::{
    ast::{Expr, ExprKind, LetValue, Statement},
    parser::parse_query,
};

/// Built-in functions that give a value, those that constants are made of.
const SCALAR_FUNCTIONS: &str = "\
    abs ago array_concat array_length bag_merge bag_pack base64_decode_tostring base64_encode_tostring bin case \
    ceiling coalesce countof current_cluster_endpoint current_database current_principal datetime_add \
    datetime_diff datetime_part datetime_utc_to_local endofday endofmonth endofweek endofyear exp extract \
    extract_all extract_json floor format_datetime format_timespan hash hash_md5 hash_sha256 iff iif indexof \
    isempty isnotempty isnotnull isnull log log10 log2 make_datetime make_timespan max_of min_of new_guid not now \
    pack pack_array parse_json pi pow rand repeat replace_regex replace_string round set_difference set_intersect \
    set_union sqrt split startofday startofmonth startofweek startofyear strcat strcat_array strcat_delim strlen \
    substring tobool todatetime todecimal todouble todynamic toguid toint tolong tolower toreal toscalar tostring \
    totimespan toupper trim trim_end trim_start url_decode url_encode";

/// Whether a function's body, with or without its braces, certainly gives a value. What cannot be read, or may be a table's name, may be a table.
pub(crate) fn is_surely_scalar(body: &str) -> bool {
    let body = body.trim();
    let inner = body.strip_prefix('{').and_then(|body| body.strip_suffix('}')).unwrap_or(body);
    let Ok(query) = parse_query(inner.trim().trim_end_matches(';')) else { return false };
    let mut bound = BTreeMap::new();
    for statement in &query.statements {
        if let Statement::Let { name, value } = statement {
            let is_value = matches!(value, LetValue::Expression(value) if is_scalar(value, &bound));
            bound.insert(&*name.name, is_value);
        }
    }
    matches!(query.statements.last(), Some(Statement::Expression(last)) if is_scalar(last, &bound))
}

/// Whether an expression gives a value; `bound`: the names under `let`, and whether they stand for one.
fn is_scalar(expression: &Expr, bound: &BTreeMap<&str, bool>) -> bool {
    match &expression.kind {
        ExprKind::Literal(_)
        | ExprKind::Unary { .. }
        | ExprKind::Binary { .. }
        | ExprKind::In { .. }
        | ExprKind::Between { .. }
        | ExprKind::Index { .. } => true,
        ExprKind::Name(name) => bound.get(&**name) == Some(&true),
        ExprKind::Call { name, .. } => {
            !bound.contains_key(&*name.name) && SCALAR_FUNCTIONS.split_whitespace().any(|known| known == name.name)
        }
        ExprKind::Member { target, .. } => is_scalar(target, bound),
        ExprKind::Star
        | ExprKind::TypeOf(_)
        | ExprKind::MemberCall { .. }
        | ExprKind::Pipeline { .. }
        | ExprKind::Source(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_no_table() {
        for body in [
            "42",
            "{ 42 }",
            "{42;}",
            "{\n    // Ours.\n    'a text'\n}",
            "{ -1 }",
            "{ 1 + 2 * 3 }",
            "{ ago(1h) }",
            "{ toscalar(T | count) }",
            "{ dynamic({\"a\": 1}) }",
            "{ dynamic({\"a\": 1}).a }",
            "{ dynamic([1, 2])[0] }",
            "{ let limit = 10; limit }",
            "{ let limit = 10; let twice = limit * 2; twice }",
            "{ now() between (ago(1d) .. now()) }",
        ] {
            assert!(is_surely_scalar(body), "{body}");
        }
    }

    #[test]
    fn what_may_be_a_table_is_one() {
        for body in [
            "",
            "{ }",
            "{ T }",
            "{ ['a b'] }",
            "{ T | count }",
            "{ F() }",
            "{ table('T') }",
            "{ database('Logs').T }",
            "{ database('Logs').F() }",
            "{ cluster('c').database('Logs').T }",
            "{ print 1 }",
            "{ range x from 1 to 3 step 1 }",
            "{ datatable(a:long) [1] }",
            "{ union A, B }",
            "{ let A = T; A }",
            "{ let x = 1; let x = T; x }",
            "{ let F = () { T }; F() }",
            "{ let now = () { T }; now() }",
            "{ materialize(T) }",
            "{ this is no query",
        ] {
            assert!(!is_surely_scalar(body), "{body}");
        }
    }
}
