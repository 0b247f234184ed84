//! Tests of the double.
