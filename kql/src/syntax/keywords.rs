//! Which words are keywords, and where Kusto demands brackets around a name that equals one. Pure tables.
//!
//! Source: Microsoft's parser (`@kusto/language-service-next` 12.4.1), asked for each of its keywords in a place that refers to a name
//! (`where f(1, word)`) and in one that declares it (`extend word = 1`).

/// Must be bracketed wherever it is a name.
const NEVER: &[&str] = &[
    "__contextual_datatable",
    "__crossCluster",
    "__crossDB",
    "__executeAndCache",
    "__id",
    "__isFuzzy",
    "__noWithSource",
    "__packedColumn",
    "__projectAway",
    "__sourceColumnIndex",
    "and",
    "anomalychart",
    "areachart",
    "asc",
    "bagexpansion",
    "barchart",
    "between",
    "boolean",
    "byte",
    "cachingpolicy",
    "callout",
    "cancel",
    "card",
    "char",
    "columnchart",
    "contains_cs",
    "containscs",
    "cycles",
    "dataexport",
    "datascope",
    "date",
    "datetime",
    "decimal",
    "decodeblocks",
    "desc",
    "double",
    "dynamic",
    "encodingpolicy",
    "endswith",
    "endswith_cs",
    "expandoutput",
    "extent_tags_retention",
    "external_data",
    "first",
    "flags",
    "float",
    "force_remote",
    "harddelete",
    "hardretention",
    "has_all",
    "has_any",
    "has_cs",
    "hasprefix",
    "hasprefix_cs",
    "hassuffix",
    "hassuffix_cs",
    "hotcache",
    "int",
    "int16",
    "int32",
    "int64",
    "int8",
    "isfuzzy",
    "journal",
    "ladderchart",
    "last",
    "like",
    "likecs",
    "linechart",
    "long",
    "missing",
    "nooptimization",
    "notcontains",
    "notcontainscs",
    "notlike",
    "notlikecs",
    "or",
    "others",
    "pathformat",
    "piechart",
    "pivotchart",
    "project",
    "queries",
    "query_results",
    "real",
    "relaxed",
    "restricted_view_access",
    "row_level_security",
    "rowstore",
    "rowstore_references",
    "rowstore_sealinfo",
    "rowstorepolicy",
    "rowstores",
    "scatterchart",
    "seal",
    "seals",
    "shards",
    "simple",
    "softdelete",
    "softretention",
    "stackedareachart",
    "startswith",
    "startswith_cs",
    "statistics",
    "storedqueryresultcontainers",
    "string",
    "tablepurge",
    "time",
    "timechart",
    "timeline",
    "timepivot",
    "timespan",
    "treemap",
    "uint",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "ulong",
    "union",
    "uniqueid",
    "unrestrictedviewers",
    "views",
    "with_itemindex",
    "with_match_id",
    "with_step_name",
    "writeaheadlog",
];

/// Must be bracketed where it refers to something; `extend by = 1` declares one.
const NEVER_REFERRED: &[&str] = &[
    "accumulate",
    "as",
    "by",
    "contains",
    "datatable",
    "earliest",
    "externaldata",
    "find",
    "has",
    "in",
    "invoke",
    "latest",
    "materialize",
    "mdm",
    "of",
    "print",
    "sample",
    "search",
    "set",
    "sql",
    "title",
    "to",
    "toscalar",
    "totable",
    "verbose",
    "viewers",
    "where",
];

/// Must be bracketed where it is declared: `kind = 1` would be a parameter.
const NEVER_DECLARED: &[&str] = &["kind", "with_source", "withsource"];

/// May be a name anywhere; the printer brackets them all the same.
const FREE: &[&str] = &[
    "__partitionby",
    "access",
    "alias",
    "best_effort",
    "bin",
    "bool",
    "consume",
    "count",
    "database",
    "dataformat",
    "datetime_pattern",
    "declare",
    "default",
    "distinct",
    "edges",
    "entity_group",
    "evaluate",
    "extend",
    "facet",
    "filter",
    "fork",
    "from",
    "getschema",
    "graph",
    "guid",
    "id",
    "inline_external_table",
    "join",
    "let",
    "limit",
    "lookup",
    "mvapply",
    "mvexpand",
    "nodes",
    "null",
    "nulls",
    "on",
    "optional",
    "order",
    "output",
    "pack",
    "parse",
    "partition",
    "pattern",
    "plotly",
    "query_parameters",
    "range",
    "reduce",
    "regex",
    "render",
    "restrict",
    "scan",
    "serialize",
    "sort",
    "step",
    "summarize",
    "take",
    "top",
    "typeof",
    "uuid",
    "view",
    "with",
    "with_node_id",
];

/// `true` and `false` in the three spellings of Kusto.
pub fn boolean(word: &str) -> Option<bool> {
    match word {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

fn holds(words: &[&str], word: &str) -> bool {
    words.binary_search(&word).is_ok()
}

/// The words that make a literal of the parenthesis right behind them.
const LITERAL_TYPES: &[&str] =
    &["bool", "date", "datetime", "decimal", "double", "dynamic", "guid", "int", "long", "real", "time", "timespan"];

/// Whether `word(...)` is a literal.
pub fn is_literal_type(word: &str) -> bool {
    holds(LITERAL_TYPES, word)
}

/// Whether a reference to this name needs brackets.
pub fn reserved_where_referred(word: &str) -> bool {
    word == "null" || holds(NEVER, word) || holds(NEVER_REFERRED, word)
}

/// Whether `word(...)` takes a pipeline without parentheses of its own.
pub fn takes_pipeline(word: &str) -> bool {
    matches!(word, "materialize" | "toscalar")
}

/// Whether a call of this name needs brackets somewhere: behind `mv-expand`, even `limit(...)` does.
pub fn reserved_where_called(word: &str) -> bool {
    is_literal_type(word)
        || matches!(word, "kind" | "limit" | "totable" | "typeof" | "with_source" | "withsource")
        || reserved_where_referred(word)
}

/// Whether the declaration of this name (a column, a parameter) needs brackets.
pub fn reserved_where_declared(word: &str) -> bool {
    holds(NEVER, word) || holds(NEVER_DECLARED, word)
}

/// Whether the word means something anywhere: what the printer brackets.
pub fn is_keyword(word: &str) -> bool {
    boolean(word).is_some()
        || word == "null"
        || [NEVER, NEVER_REFERRED, NEVER_DECLARED, FREE].iter().any(|words| holds(words, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_because_they_are_searched() {
        for words in [NEVER, NEVER_REFERRED, NEVER_DECLARED, FREE, LITERAL_TYPES] {
            assert!(words.is_sorted());
        }
    }

    #[test]
    fn a_word_is_reserved_where_microsofts_parser_says_so() {
        assert!(reserved_where_referred("by") && !reserved_where_declared("by"));
        assert!(!reserved_where_referred("kind") && reserved_where_declared("kind"));
        assert!(reserved_where_referred("and") && reserved_where_declared("and"));
        assert!(!reserved_where_referred("count") && !reserved_where_declared("count") && is_keyword("count"));
        assert!(!is_keyword("Timestamp"));
    }
}
