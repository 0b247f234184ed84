//! Tests of the double: what stories lean on must hold by itself. Its clock is put forward; nothing here waits for things to take their time.

mod clusters;
mod databases;
mod exchanges;
mod faults;
mod identity;
mod people;
mod region;
mod support;
