//! What is wrong with a scenario, in words that help.

use std::fmt::Display;

/// A scenario that cannot be run as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScriptError(String);

/// Names less alike than this are no suggestion. 0.7 takes one or two wrong letters in a word.
const ALIKE: f64 = 0.7;

impl ScriptError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// The text is not TOML.
    pub(super) fn text(error: &toml::de::Error) -> Self {
        Self(error.to_string().trim_end().to_owned())
    }

    /// A key that nobody knows; `place` is empty at the top of the file.
    pub(in crate::scenario) fn unknown(place: &str, key: &str, known: &[&str]) -> Self {
        let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
        let nearest = known
            .iter()
            .map(|known| (strsim::jaro_winkler(key, known), *known))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(alike, _)| *alike >= ALIKE);
        let hint = match nearest {
            Some((_, known)) => format!("did you mean `{known}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        Self(format!("{place}unknown key `{key}`; {hint}"))
    }

    /// Phases that wait for each other.
    pub(in crate::scenario) fn circle(name: &str) -> Self {
        Self(format!("phase `{name}` would never end: phases wait for each other in a circle"))
    }

    /// What serde says of a table at `place`. Unknown keys get a suggestion.
    pub(super) fn typed(place: &str, error: &impl Display) -> Self {
        let said = error.to_string();
        match unknown_field(&said) {
            Some((key, known)) => Self::unknown(place, key, &known),
            None => Self(format!("{place}: {}", said.trim().replace('\n', "; "))),
        }
    }
}

/// Takes "unknown field `a`, expected one of `b`, `c`" to pieces; serde has no other way to tell.
fn unknown_field(said: &str) -> Option<(&str, Vec<&str>)> {
    let rest = said.split_once("unknown field `")?.1;
    let (key, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).collect();
    Some((key, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_letter_gets_a_suggestion() {
        let said = "unknown field `usres`, expected one of `users`, `rooms`\nin `fleet`";
        assert_eq!(
            ScriptError::typed("fleet", &said).to_string(),
            "fleet: unknown key `usres`; did you mean `users`?"
        );
        let said = "unknown field `xyz`, expected `users` or `rooms`";
        assert_eq!(
            ScriptError::typed("fleet", &said).to_string(),
            "fleet: unknown key `xyz`; known are users, rooms"
        );
    }

    #[test]
    fn other_errors_are_told_as_they_are() {
        assert_eq!(ScriptError::typed("run", &"invalid type\n").to_string(), "run: invalid type");
    }
}
