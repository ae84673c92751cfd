//! URL schemes and the backends they pick.

use trunkline_core::{Error, ErrorKind, Result, settings::redact};

/// A backend that a scheme picks, whether it is compiled in or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Memory,
}

/// What picks a backend, and which feature compiles it in.
const SCHEMES: &[(&str, Scheme, &str)] = &[("memory", Scheme::Memory, "memory")];

impl Scheme {
    pub(crate) fn of(url: &str) -> Result<Self> {
        let Some((name, _)) = url.split_once(':') else {
            let context = format!("{:?} has no scheme; {}", redact(url), allowed());
            return Err(Error::new(ErrorKind::Config, context));
        };
        let is_named = |(scheme, _, _): &&(&str, Self, &str)| *scheme == name;
        match SCHEMES.iter().find(is_named) {
            Some((_, scheme, _)) => Ok(*scheme),
            None => Err(Error::new(ErrorKind::Config, format!("unknown scheme {name:?}; {}", allowed()))),
        }
    }

    pub(crate) fn feature_is_off(self) -> Error {
        let (name, feature) = SCHEMES
            .iter()
            .find(|(_, scheme, _)| *scheme == self)
            .map_or(("", ""), |(name, _, feature)| (name, feature));
        let context = format!("scheme {name:?} needs the feature {feature:?} of the crate trunkline, which is off");
        Error::new(ErrorKind::Config, context)
    }
}

fn allowed() -> String {
    let names: Vec<_> = SCHEMES.iter().map(|(name, _, _)| *name).collect();
    format!("allowed are {}", names.join(", "))
}
