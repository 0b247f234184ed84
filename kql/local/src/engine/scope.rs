//! What names mean outside of a row: `let`, parameters, the scope of a `macro-expand`. Pure values; a scope is never changed, only added to, so a
//! tabular `let` carries the scope in which it was written.

use std::sync::Arc;

use kql::syntax::ast::{ColumnDeclaration, Expr, FunctionLiteral};

use super::{relation::Relation, scalar::Scalar};
use crate::catalog::Entity;

/// Where a name stands and what is bound around it.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// What belongs to the whole text: the query's, or a stored function's.
    pub(crate) place: Arc<Place>,
    link: Option<Arc<Link>>,
}

/// A text and its database.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The database of unqualified names.
    pub(crate) database: String,
    /// The query's text, for positions in errors; `None` inside stored functions, whose positions would point into another text.
    pub(crate) text: Option<Arc<str>>,
    /// The stored functions being called, outermost first.
    pub(crate) calls: Vec<String>,
    /// Inside the body of a `macro-expand`, which must not hold another.
    pub(crate) in_macro_expand: bool,
}

#[derive(Debug)]
struct Link {
    name: String,
    binding: Binding,
    parent: Option<Arc<Link>>,
}

/// What a name is bound to.
#[derive(Debug, Clone)]
pub(crate) enum Binding {
    /// A scalar: a literal, or an argument of a scalar function, which may name the caller's columns.
    Scalar(Scalar),
    /// A tabular expression, planned anew at every use.
    Table(TableBinding),
    /// A planned table: what `as` names.
    Relation(Box<Relation>),
    /// A function of `let`, with the scope in which it was written.
    Function(Arc<FunctionLiteral>, Scope),
    /// An entity group of `let`.
    Group(Arc<Vec<Entity>>),
    /// The scope name of a `macro-expand`.
    Entity(Target),
}

/// A tabular expression with its scope.
#[derive(Debug, Clone)]
pub(crate) struct TableBinding {
    pub(crate) expr: Arc<Expr>,
    pub(crate) scope: Scope,
    /// The columns that a table parameter declares; empty for `(*)` and for `let`.
    pub(crate) columns: Arc<Vec<ColumnDeclaration>>,
}

/// A database, here or on another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// `None` is this server.
    pub(crate) cluster: Option<String>,
    pub(crate) database: String,
}

impl Scope {
    pub(crate) fn new(place: Place) -> Self {
        Self { place: Arc::new(place), link: None }
    }

    /// The same bindings in another place.
    pub(crate) fn in_place(&self, place: Place) -> Self {
        Self { place: Arc::new(place), link: self.link.clone() }
    }

    /// One more binding, in front of older ones with the same name.
    #[must_use]
    pub(crate) fn with(&self, name: &str, binding: Binding) -> Self {
        let link = Link { name: name.to_owned(), binding, parent: self.link.clone() };
        Self { place: Arc::clone(&self.place), link: Some(Arc::new(link)) }
    }

    pub(crate) fn lookup(&self, name: &str) -> Option<&Binding> {
        let mut link = self.link.as_deref();
        while let Some(present) = link {
            if present.name == name {
                return Some(&present.binding);
            }
            link = present.parent.as_deref();
        }
        None
    }

    /// Names that a wildcard of `union` may match: tabular bindings, innermost first.
    pub(crate) fn table_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let mut link = self.link.as_deref();
        while let Some(present) = link {
            if matches!(present.binding, Binding::Table(_) | Binding::Relation(_)) && !names.contains(&&*present.name) {
                names.push(&*present.name);
            }
            link = present.parent.as_deref();
        }
        names
    }
}

impl Drop for Link {
    // A chain of thousands of `let` must not be dropped by recursion.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(link) = next {
            match Arc::try_unwrap(link) {
                Ok(mut link) => next = link.parent.take(),
                Err(_) => break,
            }
        }
    }
}
