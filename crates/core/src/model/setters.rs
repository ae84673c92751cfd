//! Chained setters of types whose fields may grow in number.

/// Adds a method `with_FIELD` per field to a type.
macro_rules! setters {
    ($type:ident { $($with:ident($field:ident: $value:ty)),* $(,)? }) => {
        impl $type {
            $(
                #[doc = concat!("The same with another [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub const fn $with(mut self, $field: $value) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

pub(crate) use setters;
