//! The Rust blocks of README and book, as documentation tests: `cargo test` compiles and runs them against the current crates.
//!
//! `cargo xtask book` reports a page with Rust blocks that is missing from the list below.

/// A module a page, with the page as its documentation.
macro_rules! pages {
    ($($name:ident = $page:literal;)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!($page)]
            pub mod $name {}
        )*
    };
}

pages! {
    readme = "../../../README.md";
    neuroplastic_readme = "../../../crates/neuroplastic/README.md";
    np_core_readme = "../../../crates/np-core/README.md";
    np_engine_readme = "../../../crates/np-engine/README.md";
    np_data_readme = "../../../crates/np-data/README.md";
    np_record_readme = "../../../crates/np-record/README.md";
    quick_start = "../../../docs/src/quick-start.md";
    optimizer = "../../../docs/src/optimizer/README.md";
    from_candle = "../../../docs/src/optimizer/from-candle.md";
    from_pytorch = "../../../docs/src/optimizer/from-pytorch.md";
    groups = "../../../docs/src/optimizer/groups.md";
    schedules = "../../../docs/src/optimizer/schedules.md";
    clipping = "../../../docs/src/optimizer/clipping.md";
    accumulation = "../../../docs/src/optimizer/accumulation.md";
    half_precision = "../../../docs/src/optimizer/half-precision.md";
    saving = "../../../docs/src/optimizer/saving.md";
    averaging = "../../../docs/src/optimizer/averaging.md";
    diagnostics = "../../../docs/src/optimizer/diagnostics.md";
    second_order = "../../../docs/src/optimizer/second-order.md";
    records = "../../../docs/src/experiments/records.md";
    extend_optimizer = "../../../docs/src/extend/optimizer.md";
    extend_model = "../../../docs/src/extend/model.md";
    extend_task = "../../../docs/src/extend/task.md";
}
