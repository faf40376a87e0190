//! Models that answer a few calls at a time: the others stand in line.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::script::Script;

/// The line before a model.
pub type Line = Arc<Semaphore>;

/// The lines of a script, by the name under which it has the model.
#[derive(Debug, Default)]
pub struct Lines(BTreeMap<String, (usize, Line)>);

impl Lines {
    /// The lines of the script that is played next. A model that goes on taking as many calls at a
    /// time keeps its line, with all who stand in it.
    #[must_use]
    pub fn of_next(&self, script: &Script) -> Self {
        let places = script.models.iter().filter_map(|(name, model)| Some((name, model.at_once?)));
        let line = |name: &String, places| match self.0.get(name) {
            Some((before, line)) if *before == places => line.clone(),
            Some(_) | None => Arc::new(Semaphore::new(places)),
        };
        Self(places.map(|(name, places)| (name.clone(), (places, line(name, places)))).collect())
    }

    /// The line before the model of this name, else of the one named `*`.
    pub fn of(&self, script: &Script, model: &str) -> Option<Line> {
        let name = if script.models.contains_key(model) { model } else { "*" };
        self.0.get(name).map(|(_, line)| line.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Script {
        Script::parse(text, "x").unwrap()
    }

    #[test]
    fn a_line_outlives_its_script_while_the_model_takes_as_many() {
        let first = script("models: {a: {at_once: 2}, b: {at_once: 2}, '*': {}}");
        let lines = Lines::default().of_next(&first);
        assert!(lines.of(&first, "c").is_none());
        let second = script("models: {a: {at_once: 2}, b: {at_once: 3}, '*': {at_once: 1}}");
        let next = lines.of_next(&second);
        let same = |model| {
            let line = lines.of(&first, model).unwrap();
            Arc::ptr_eq(&line, &next.of(&second, model).unwrap())
        };
        assert!(same("a") && !same("b"));
        // All names that are not listed stand in one line.
        let (c, d) = (next.of(&second, "c").unwrap(), next.of(&second, "d").unwrap());
        assert!(Arc::ptr_eq(&c, &d));
        assert_eq!(c.available_permits(), 1);
    }
}
