//! The syntax tree of the supported language: what the parser makes, the printer prints and the local server plans.
//!
//! Kusto has one grammar for tabular and scalar expressions, and which of them a name is only shows when names are bound. So there is one
//! [`Expr`]: `T | where a > 1`, `T`, `1 + 2` and `toscalar(T | count)` are all expressions. Binding is the planner's.

use crate::types::ScalarType;

/// A half-open byte range of the text. Two trees that differ only in positions are equal: a position is not part of a text's meaning.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    /// Byte offset of the first byte.
    pub start: usize,
    /// Byte offset after the last byte.
    pub end: usize,
}

impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Span {}

/// A name as written, its quotes and escapes undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident {
    /// The name.
    pub name: String,
    /// Where it stands.
    pub span: Span,
}

/// A whole query text: statements separated by `;`.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// In the order of the text; at least one.
    pub statements: Vec<Statement>,
}

/// One statement of a query or a function body.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `let name = value`
    Let {
        /// The name that is bound.
        name: Ident,
        /// What it is bound to.
        value: LetValue,
    },
    /// `set option` or `set option=value`
    Set {
        /// The request property.
        option: Ident,
        /// Its value, if given.
        value: Option<Literal>,
    },
    /// `declare query_parameters(a:long, b:string = "x")`
    QueryParameters(Vec<Parameter>),
    /// An expression; tabular at the top level, tabular or scalar in a function body.
    Expression(Expr),
}

/// The right side of a `let`.
#[derive(Debug, Clone, PartialEq)]
pub enum LetValue {
    /// A scalar or tabular expression.
    Expression(Expr),
    /// `(a:long) { a + 1 }` or `view () { T }`
    Function(FunctionLiteral),
    /// `entity_group [cluster('a').database('b'), ...]`
    EntityGroup(Vec<Expr>),
}

/// Parameters and body of a user-defined function, stored or under `let`.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionLiteral {
    /// Declared with `view`: wildcards of `union` see it.
    pub view: bool,
    /// In the order of the text.
    pub parameters: Vec<Parameter>,
    /// Statements; the last is the value.
    pub body: Vec<Statement>,
}

/// One parameter of a function or of `declare query_parameters`.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub kind: ParameterType,
    /// `= literal`, if given.
    pub default: Option<Literal>,
}

/// The type of a [`Parameter`].
#[derive(Debug, Clone, PartialEq)]
pub enum ParameterType {
    /// `a:long`
    Scalar(ScalarType),
    /// `T:(x:long, y:string)`; `T:(*)` is the empty list.
    Table(Vec<ColumnDeclaration>),
}

/// `name:type`
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDeclaration {
    /// The column's name.
    pub name: Ident,
    /// Its type.
    pub scalar_type: ScalarType,
}

/// An expression with its position.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// An expression, tabular or scalar.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// A literal value.
    Literal(Literal),
    /// `a`, `['a b']`: a column, table, function without parentheses, `let` name, `$left`, `$right`.
    Name(String),
    /// `*`: only as an argument (`arg_max(x, *)`), in `distinct *` and `count(*)`.
    Star,
    /// `typeof(long)`, as an argument.
    TypeOf(ScalarType),
    /// `target.member`: a dynamic path, or an entity (`X.T`, `cluster('a').database('b').['T']`, `$left.Key`, `X.$current_database`).
    Member {
        /// What stands before the dot.
        target: Box<Expr>,
        /// The name after it.
        member: Ident,
    },
    /// `target.f(args)`: `cluster('a').database('b')`, `X.table('T')`, `X.F(1)`.
    MemberCall {
        /// What stands before the dot.
        target: Box<Expr>,
        /// The function.
        name: Ident,
        /// Its arguments.
        arguments: Vec<Argument>,
    },
    /// `target[index]`
    Index {
        /// The dynamic value.
        target: Box<Expr>,
        /// A string, an integer or any scalar expression.
        index: Box<Expr>,
    },
    /// `f(args)`: built in, stored, or under `let`; `materialize`, `toscalar`, `table`, `database`, `cluster` too.
    Call {
        /// The function.
        name: Ident,
        /// Its arguments.
        arguments: Vec<Argument>,
    },
    /// `-a`, `+a`. (`not(a)` is a call.)
    Unary {
        /// The operator.
        op: UnaryOp,
        /// Its operand.
        operand: Box<Expr>,
    },
    /// `a op b`
    Binary {
        /// The operator.
        op: BinaryOp,
        /// Left operand.
        left: Box<Expr>,
        /// Right operand.
        right: Box<Expr>,
    },
    /// `a in (1, 2)`, `a !in~ (T)`, `a has_any ("x", "y")`
    In {
        /// Which of the operators.
        op: InOp,
        /// The tested value.
        target: Box<Expr>,
        /// Values; or one tabular or dynamic expression.
        list: Vec<Expr>,
    },
    /// `a between (low .. high)`
    Between {
        /// `!between`
        negated: bool,
        /// The tested value.
        target: Box<Expr>,
        /// Inclusive lower bound.
        low: Box<Expr>,
        /// Inclusive upper bound (a timespan counts from `low`).
        high: Box<Expr>,
    },
    /// `source | operator | ...`; `operators` is not empty.
    Pipeline {
        /// What feeds the first operator.
        source: Box<Expr>,
        /// In the order of the text.
        operators: Vec<Operator>,
    },
    /// A tabular source with syntax of its own.
    Source(Source),
}

/// An argument of a call: `expr` or `name = expr`.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// The name, if given.
    pub name: Option<Ident>,
    /// The value, scalar or tabular.
    pub value: Expr,
}

/// A literal. `None` is the typed null: `long(null)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `true`, `bool(null)`
    Bool(Option<bool>),
    /// `datetime(2025-01-01)`: ticks of 100 ns since year 1.
    DateTime(Option<i64>),
    /// `decimal(1.5)`: the digits as written, normalised to `[-]digits[.digits]`.
    Decimal(Option<String>),
    /// `dynamic({"a": 1})`; `dynamic(null)` is [`serde_json::Value::Null`].
    Dynamic(serde_json::Value),
    /// `guid(...)`: lower case, with hyphens, no braces.
    Guid(Option<String>),
    /// `int(1)`
    Int(Option<i32>),
    /// `1`, `0x1F`, `long(1)`
    Long(Option<i64>),
    /// `1.5`, `1e3`, `real(nan)`, `real(+inf)`
    Real(Option<f64>),
    /// `'a'`, `"a"`, `@"a"`, `h"a"`, a fenced text.
    String(String),
    /// `1d`, `10m`, `time(1.02:03:04.5)`: ticks of 100 ns.
    Timespan(Option<i64>),
}

/// Prefix operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-`
    Minus,
    /// `+`
    Plus,
}

/// Infix operators, loosest last in Kusto's order: `* / %`, `+ -`, comparison and string operators, `and`, `or`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The variants are Kusto's operator names.
pub enum BinaryOp {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `=~`
    EqualTilde,
    /// `!~`
    NotEqualTilde,
    Has,
    NotHas,
    HasCs,
    NotHasCs,
    HasPrefix,
    NotHasPrefix,
    HasSuffix,
    NotHasSuffix,
    Contains,
    NotContains,
    ContainsCs,
    NotContainsCs,
    StartsWith,
    NotStartsWith,
    StartsWithCs,
    NotStartsWithCs,
    EndsWith,
    NotEndsWith,
    EndsWithCs,
    NotEndsWithCs,
    MatchesRegex,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

/// Operators with a parenthesised list on the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The variants are Kusto's operator names.
pub enum InOp {
    In,
    NotIn,
    /// `in~`
    InTilde,
    /// `!in~`
    NotInTilde,
    HasAny,
    HasAll,
}

/// Tabular sources that begin with a keyword.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// `print a = 1, 2`
    Print(Vec<NamedExpr>),
    /// `range x from 1 to 10 step 1`
    Range {
        /// The column.
        column: Ident,
        /// First value.
        from: Box<Expr>,
        /// Last value, inclusive.
        to: Box<Expr>,
        /// Difference of two values.
        step: Box<Expr>,
    },
    /// `datatable(a:long, b:string) [1, "x", 2, "y"]`
    DataTable {
        /// The columns.
        columns: Vec<ColumnDeclaration>,
        /// Row after row; each is a literal, or a constant expression such as `-1`.
        values: Vec<Expr>,
    },
    /// `union kind=outer withsource=Name isfuzzy=true A, (B | where x), C*`
    Union(UnionClause),
    /// `macro-expand isfuzzy=true Group as X ( subquery )`
    MacroExpand(MacroExpand),
}

/// What follows the word `union`, as a source or after `|`.
#[derive(Debug, Clone, PartialEq)]
pub struct UnionClause {
    /// `kind`, `withsource`, `isfuzzy`, `hint.*`, in the order of the text.
    pub parameters: Vec<OperatorParameter>,
    /// Tables and tabular expressions. A wildcard (`T*`) is [`ExprKind::Name`] with a `*` in it: no table's name can hold one.
    pub tables: Vec<Expr>,
}

/// `macro-expand [kind=..] [isfuzzy=..] [best_effort=..] group as scope ( body )`
#[derive(Debug, Clone, PartialEq)]
pub struct MacroExpand {
    /// `kind`, `isfuzzy`, `best_effort`, in the order of the text.
    pub parameters: Vec<OperatorParameter>,
    /// The entities.
    pub group: EntityGroup,
    /// The name that stands for the entity in the body.
    pub scope: Ident,
    /// `let` statements, then one tabular expression.
    pub body: Vec<Statement>,
}

/// Where `macro-expand` takes its entities from.
#[derive(Debug, Clone, PartialEq)]
pub enum EntityGroup {
    /// A stored group, or one bound by `let`.
    Named(Ident),
    /// `entity_group [cluster('a').database('b'), ...]`
    Inline(Vec<Expr>),
}

/// `name=value` after an operator's word: `kind=inner`, `isfuzzy=true`, `hint.strategy=broadcast`.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorParameter {
    /// The name, `hint.strategy` included as one name.
    pub name: Ident,
    /// A name or a literal.
    pub value: ParameterValue,
}

/// The right side of an [`OperatorParameter`].
#[derive(Debug, Clone, PartialEq)]
pub enum ParameterValue {
    /// `inner`, `SourceTable`
    Name(Ident),
    /// `true`, `5`
    Literal(Literal),
}

/// `expr` or `name = expr`
#[derive(Debug, Clone, PartialEq)]
pub struct NamedExpr {
    /// The name, if given.
    pub name: Option<Ident>,
    /// The value.
    pub value: Expr,
}

/// What stands after a `|`, with its position.
#[derive(Debug, Clone, PartialEq)]
pub struct Operator {
    /// What it is.
    pub kind: OperatorKind,
    /// Where it stands, from its first word.
    pub span: Span,
}

/// Tabular operators.
#[derive(Debug, Clone, PartialEq)]
pub enum OperatorKind {
    /// `where p`, `filter p`
    Where(Expr),
    /// `extend a = x, y`
    Extend(Vec<NamedExpr>),
    /// `project a, b = x`
    Project(Vec<NamedExpr>),
    /// `project-away a, b*`: names, `*` standing for any characters.
    ProjectAway(Vec<Ident>),
    /// `project-keep a, b*`
    ProjectKeep(Vec<Ident>),
    /// `project-rename new = old`
    ProjectRename(Vec<Renaming>),
    /// `project-reorder a, b* desc`
    ProjectReorder(Vec<Reordering>),
    /// `summarize a = count() by b, bin(t, 1h)`
    Summarize {
        /// `hint.*`
        parameters: Vec<OperatorParameter>,
        /// May be empty: `summarize by a` is `distinct a`.
        aggregates: Vec<NamedExpr>,
        /// Group keys.
        by: Vec<NamedExpr>,
    },
    /// `distinct a, b = x`; `distinct *` has [`ExprKind::Star`] as its one element.
    Distinct(Vec<NamedExpr>),
    /// `take n`, `limit n`
    Take(Expr),
    /// `top n by a desc nulls last, b`
    Top {
        /// How many rows.
        count: Expr,
        /// Sort keys.
        by: Vec<SortKey>,
    },
    /// `sort by a asc`, `order by a`
    Sort(Vec<SortKey>),
    /// `count`, `count as name`
    Count(Option<Ident>),
    /// `join kind=inner (R) on a, $left.b == $right.c`
    Join {
        /// `kind`, `hint.*`, in the order of the text.
        parameters: Vec<OperatorParameter>,
        /// The right table.
        right: Box<Expr>,
        /// Names, or equalities of `$left.x` and `$right.y`.
        on: Vec<Expr>,
    },
    /// `union ...` with what comes through the pipe as its first table.
    Union(UnionClause),
    /// `mv-expand kind=bag with_itemindex=i a to typeof(long), b = x limit 10`
    MvExpand {
        /// `kind`, `bagexpansion`, `with_itemindex`
        parameters: Vec<OperatorParameter>,
        /// What is expanded.
        columns: Vec<MvExpandColumn>,
        /// `limit n`
        limit: Option<Expr>,
    },
    /// `getschema`
    GetSchema,
    /// `as name`
    As(Ident),
    /// `render timechart with (title="x")`: a wish to the client, no effect on the rows.
    Render {
        /// The chart.
        chart: Ident,
        /// `with (..)`
        properties: Vec<OperatorParameter>,
    },
}

/// `new = old` of `project-rename`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renaming {
    /// The new name.
    pub new: Ident,
    /// The present name.
    pub old: Ident,
}

/// One pattern of `project-reorder`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reordering {
    /// A name, `*` standing for any characters.
    pub pattern: Ident,
    /// `asc` (`Some(true)`) or `desc` (`Some(false)`), for patterns.
    pub ascending: Option<bool>,
}

/// One key of `sort` and `top`. Kusto's defaults when absent: descending; nulls first if ascending, last if descending.
#[derive(Debug, Clone, PartialEq)]
pub struct SortKey {
    /// `name = expr` (in `top` and `sort`) or `expr`.
    pub value: NamedExpr,
    /// `asc` is `Some(true)`.
    pub ascending: Option<bool>,
    /// `nulls first` is `Some(true)`.
    pub nulls_first: Option<bool>,
}

/// One column of `mv-expand`.
#[derive(Debug, Clone, PartialEq)]
pub struct MvExpandColumn {
    /// `name = expr` or `expr`.
    pub value: NamedExpr,
    /// `to typeof(type)`
    pub to_type: Option<ScalarType>,
}
