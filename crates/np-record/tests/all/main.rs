//! Tests through the public interface, in one binary.

mod common;
mod compare;
mod forged;
mod packs;
mod planned;
mod select;
mod store;
mod tables;
