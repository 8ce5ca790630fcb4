//! A number type that records only the arguments made from `f64` values, in order: for a step whose operations have been recorded before.

use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::Number;

/// Any number.
#[derive(Debug, Clone, Copy)]
pub struct Listed;

thread_local! {
    static LIST: RefCell<Vec<f64>> = const { RefCell::new(vec![]) };
}

/// Appends the arguments that `f` makes to `list`.
pub fn list(list: &mut Vec<f64>, f: impl FnOnce(Listed)) {
    let before = LIST.replace(std::mem::take(list));
    f(Listed);
    *list = LIST.replace(before);
}

impl Number for Listed {
    const ZERO: Self = Self;
    const ONE: Self = Self;
    const MAX: Self = Self;

    #[inline]
    fn from_f64(x: f64) -> Self {
        LIST.with_borrow_mut(|list| list.push(x));
        Self
    }

    #[inline]
    fn abs(self) -> Self {
        self
    }

    #[inline]
    fn sqrt(self) -> Self {
        self
    }

    #[inline]
    fn select_lt(_: Self, _: Self, _: Self, _: Self) -> Self {
        Self
    }
}

impl Neg for Listed {
    type Output = Self;

    #[inline]
    fn neg(self) -> Self {
        self
    }
}

macro_rules! binary {
    ($($trait:ident $method:ident),*) => {
        $(impl $trait for Listed {
            type Output = Self;

            #[inline]
            fn $method(self, _: Self) -> Self {
                self
            }
        })*
    };
}
binary!(Add add, Sub sub, Mul mul, Div div);
