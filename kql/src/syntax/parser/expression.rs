//! Expressions: operands and the operators between them by precedence. Called by every other part of the grammar.
//!
//! The operators are kept on a heap stack, not on the thread's, so that nesting costs one frame for all levels of precedence.

use super::{Parser, Result};
use crate::syntax::{
    ast::{BinaryOp, Expr, ExprKind, InOp, Span, UnaryOp},
    infix::{BINARY, IN, Level},
    token::TokenKind,
};

/// An operator behind an operand.
#[derive(Debug, Clone, Copy)]
enum Infix {
    Binary(BinaryOp),
    Test(Test),
}

/// An operator with a bracket of its own on the right.
#[derive(Debug, Clone, Copy)]
enum Test {
    In(InOp),
    Between { negated: bool },
}

impl Infix {
    fn level(self) -> Level {
        match self {
            Self::Binary(op) => Level::of(op),
            Self::Test(_) => Level::Equality,
        }
    }
}

/// Operators of Kusto's that the tree has no place for.
const UNSUPPORTED_INFIX: &[&str] = &[
    ":",
    "hasprefix_cs",
    "!hasprefix_cs",
    "hassuffix_cs",
    "!hassuffix_cs",
    "like",
    "likecs",
    "notlike",
    "notlikecs",
    "notcontains",
    "notcontainscs",
    "containscs",
];

const NO_CHAIN: &str = "'and', 'or' or the end of the expression (comparisons do not chain without parentheses)";

/// Operands and the operators between them that wait for one of a lower level.
#[derive(Default)]
struct Chain {
    /// With the heights of their trees.
    operands: Vec<(Box<Expr>, usize)>,
    operators: Vec<BinaryOp>,
}

impl Parser<'_> {
    /// A scalar expression: everything up to a token that cannot go on with it, such as `,`, `|` or `by`.
    ///
    /// # Errors
    /// None is here, or it is not supported, or it is too deep.
    pub fn expression(&mut self) -> Result<Expr> {
        self.boxed_expression().map(|expression| *expression)
    }

    pub(super) fn boxed_expression(&mut self) -> Result<Box<Expr>> {
        let mut chain = Chain::default();
        self.push_operand(&mut chain)?;
        while let Some(infix) = self.infix()? {
            self.join_tighter(infix.level(), &mut chain)?;
            match infix {
                Infix::Binary(op) => {
                    self.take_operator(op, &mut chain)?;
                    self.push_operand(&mut chain)?;
                }
                Infix::Test(test) => self.push_test(test, &mut chain)?,
            }
        }
        self.join_all(chain)
    }

    fn push_operand(&mut self, chain: &mut Chain) -> Result<()> {
        let beside = self.begin_tree();
        let operand = self.signed()?;
        chain.operands.push((operand, self.height));
        self.height = beside;
        Ok(())
    }

    fn take_operator(&mut self, op: BinaryOp, chain: &mut Chain) -> Result<()> {
        self.next_token()?;
        if op == BinaryOp::MatchesRegex {
            self.expect("regex")?;
        }
        chain.operators.push(op);
        Ok(())
    }

    /// Joins what binds tighter than an operator of `level` that comes next.
    fn join_tighter(&mut self, level: Level, chain: &mut Chain) -> Result<()> {
        while let Some(op) =
            chain.operators.pop_if(|op| Level::of(*op) > level || (Level::of(*op) == level && level.chains()))
        {
            self.join_last(op, chain)?;
        }
        if chain.operators.last().is_some_and(|op| Level::of(*op) == level) {
            return self.expected(NO_CHAIN);
        }
        Ok(())
    }

    fn join_all(&mut self, mut chain: Chain) -> Result<Box<Expr>> {
        while let Some(op) = chain.operators.pop() {
            self.join_last(op, &mut chain)?;
        }
        let (expression, height) = chain.operands.pop().expect("the first operand stays");
        self.end_tree(height);
        Ok(expression)
    }

    /// Joins the last two operands.
    fn join_last(&mut self, op: BinaryOp, chain: &mut Chain) -> Result<()> {
        let (right, right_height) = chain.operands.pop().expect("each operator stands between two operands");
        let (left, left_height) = chain.operands.pop().expect("each operator stands between two operands");
        let height = self.height_over(left_height.max(right_height))?;
        let span = Span { start: left.span.start, end: right.span.end };
        chain.operands.push((Box::new(Expr { kind: ExprKind::Binary { op, left, right }, span }), height));
        Ok(())
    }

    /// The operator that is next, if any.
    fn infix(&mut self) -> Result<Option<Infix>> {
        let token = self.peek()?;
        if !matches!(token.kind, TokenKind::Word | TokenKind::NegatedWord | TokenKind::Punctuation) {
            return Ok(None);
        }
        if UNSUPPORTED_INFIX.contains(&token.text) {
            return self.unsupported(token.span.start, format!("the operator {} is not supported", token.describe()));
        }
        if token.is("=") {
            return self.expected("'==' for a comparison, or the end of the expression");
        }
        let text = if token.text == "matches" { "matches regex" } else { token.text };
        let binary = BINARY.iter().find(|(_, spelling)| *spelling == text).map(|(op, _)| Infix::Binary(*op));
        let listed = || IN.iter().find(|(_, spelling)| *spelling == text).map(|(op, _)| Infix::Test(Test::In(*op)));
        Ok(binary.or_else(listed).or(match text {
            "between" => Some(Infix::Test(Test::Between { negated: false })),
            "!between" => Some(Infix::Test(Test::Between { negated: true })),
            _ => None,
        }))
    }

    /// Puts `tested in (...)` or `tested between (low .. high)` in the place of the last operand, from the operator on.
    fn push_test(&mut self, test: Test, chain: &mut Chain) -> Result<()> {
        self.next_token()?;
        let (target, height) = chain.operands.pop().expect("each operator stands between two operands");
        let start = target.span.start;
        let beside = self.begin_tree();
        self.open("(")?;
        let kind = match test {
            Test::In(op) => ExprKind::In { op, target, list: self.list()? },
            Test::Between { negated } => {
                let low = self.boxed_expression()?;
                self.expect("..")?;
                let high = self.boxed_expression()?;
                ExprKind::Between { negated, target, low, high }
            }
        };
        self.close(")")?;
        let height = self.height_over(height.max(self.height))?;
        self.height = beside;
        chain.operands.push((Box::new(Expr { kind, span: self.span_from(start) }), height));
        if self.infix()?.is_some_and(|next| next.level() >= Level::Equality) {
            return self.expected(NO_CHAIN);
        }
        Ok(())
    }

    /// `-a`, `+a`, `a`. Signs do not chain in Kusto.
    fn signed(&mut self) -> Result<Box<Expr>> {
        let sign = self.peek()?;
        let op = match sign.text {
            "-" if sign.kind == TokenKind::Punctuation => UnaryOp::Minus,
            "+" if sign.kind == TokenKind::Punctuation => UnaryOp::Plus,
            _ => return self.operand(),
        };
        self.next_token()?;
        let operand = self.operand()?;
        self.grow()?;
        Ok(Box::new(Expr { kind: ExprKind::Unary { op, operand }, span: self.span_from(sign.span.start) }))
    }
}
