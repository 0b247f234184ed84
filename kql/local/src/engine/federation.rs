//! Tables of other servers: the legs of a `macro-expand` and `cluster('c').database('d').T`.
//!
//! A leg on another server is shipped as text ([`ship`]); operators that follow are written behind that text as long as the result stays provably the same
//! ([`push`]); what remains happens here on the united rows ([`legs`]). Only loopback servers are ever asked ([`remote`]).

pub(crate) mod legs;
pub(crate) mod push;
pub(crate) mod remote;
pub(crate) mod rewrite;
pub(crate) mod ship;
