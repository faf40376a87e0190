//! What may stand in a template, checked before the template engine sees it.
//!
//! The engine pays for its work with fuel, which stops endless loops and growing texts. Three
//! things slip through: chains long enough to exhaust the stack while a template is compiled,
//! values that contain themselves a thousand million times (lists built from lists) and are turned
//! into text before anyone counts, and other templates. All three are refused here, by words.

use crate::document::nearest;

/// A mistake in a template; `at` is the byte at which it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pipeline) struct Refusal {
    pub(in crate::pipeline) at: usize,
    pub(in crate::pipeline) message: String,
    pub(in crate::pipeline) suggestion: Option<String>,
}

/// Most words in one tag, tags in one template, and open blocks.
const WORDS_MAX: usize = 400;
const TAGS_MAX: usize = 2_000;
const ELIFS_MAX: usize = 100;
const BLOCKS_MAX: usize = 16;
/// Most names in the lists and maps of one tag; `input.a` is two.
const BUILT_MAX: usize = 32;

const STATEMENTS: [&str; 19] = [
    "if",
    "elif",
    "else",
    "endif",
    "for",
    "endfor",
    "set",
    "endset",
    "with",
    "endwith",
    "filter",
    "endfilter",
    "break",
    "continue",
    "macro",
    "endmacro",
    "call",
    "endcall",
    "raw",
];
const OPENING: [&str; 6] = ["if", "for", "with", "filter", "macro", "call"];

/// Filters that exist. Left out: those that build lists of lists out of the same value (`zip`,
/// `batch`, `slice`, `chain`), and those for HTML.
pub(super) const FILTERS: [&str; 40] = [
    "abs",
    "attr",
    "bool",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
];

const TESTS: [&str; 31] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Name,
    Number,
    Text,
    Sign,
}

#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    kind: Kind,
    text: &'a str,
    at: usize,
}

/// A variable with its fixed path, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) path: Vec<String>,
    pub(super) at: usize,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Whether there is anything but text.
    pub(super) dynamic: bool,
    /// Every name with its path that stands where a variable can stand.
    pub(super) chains: Vec<Chain>,
    /// The first list or map that is built from variables.
    built_at: Option<usize>,
    /// Whether macros are defined.
    macros: bool,
    /// How many loops and macros are open.
    repeated: usize,
    /// Whether two variables are compared in a loop or in a macro. The engine does not pay for
    /// the length of what it compares.
    pub(super) compares: bool,
}

fn refusal(at: usize, message: impl Into<String>) -> Refusal {
    Refusal { at, message: message.into(), suggestion: None }
}

/// Reads a template's tags.
pub(super) fn scan(source: &str) -> Result<Scan, Refusal> {
    let mut scan = Scan::default();
    let (mut at, mut tags, mut open, mut elifs) = (0, 0, 0_usize, 0);
    while let Some(found) = source[at..].find('{') {
        let start = at + found;
        let tag = source[start..].get(..2);
        at = match tag {
            Some("{#") => match source[start + 2..].find("#}") {
                Some(length) => start + 2 + length + 2,
                None => return Err(refusal(start, "the comment has no end")),
            },
            Some("{{" | "{%") => {
                tags += 1;
                let (words, end) = words(source, start)?;
                if words.len() > WORDS_MAX || tags > TAGS_MAX {
                    return Err(refusal(start, "the template is too complex"));
                }
                let statement = tag == Some("{%");
                let (keyword, from) =
                    if statement { statement_of(start, &words)? } else { ("", 0) };
                if keyword == "raw" {
                    raw_end(source, start, end)?
                } else {
                    open += usize::from(OPENING.contains(&keyword));
                    let closes = keyword.strip_prefix("end").is_some_and(|k| OPENING.contains(&k));
                    open -= usize::from(closes && open > 0);
                    elifs += usize::from(keyword == "elif");
                    if open > BLOCKS_MAX || elifs > ELIFS_MAX {
                        return Err(refusal(start, "the template is too complex"));
                    }
                    scan.macros |= keyword == "macro";
                    match keyword {
                        "for" | "macro" => scan.repeated += 1,
                        "endfor" | "endmacro" => scan.repeated = scan.repeated.saturating_sub(1),
                        _ => {}
                    }
                    check(&words[from..], statement, &mut scan)?;
                    end
                }
            }
            _ => start + 1,
        };
        scan.dynamic |= matches!(tag, Some("{#" | "{{" | "{%"));
    }
    match scan.built_at {
        Some(at) if scan.macros => Err(refusal(
            at,
            "lists and maps cannot be built from variables in a template with macros",
        )),
        Some(_) | None => Ok(scan),
    }
}

/// The words of the tag at `start` and the byte after it.
fn words(source: &str, start: usize) -> Result<(Vec<Word<'_>>, usize), Refusal> {
    let close = if source[start..].starts_with("{{") { "}}" } else { "%}" };
    let (mut words, mut maps) = (Vec::new(), 0_usize);
    let mut at = start + 2;
    loop {
        let rest = &source[at..];
        let Some(c) = rest.chars().next() else {
            return Err(refusal(
                start,
                format!("`{}` has no `{close}`", &source[start..start + 2]),
            ));
        };
        // The two brackets that end nested maps are no end of the tag.
        if rest.starts_with(close) && (close == "%}" || maps == 0) {
            return Ok((words, at + 2));
        }
        match c {
            '{' => maps += 1,
            '}' => maps = maps.saturating_sub(1),
            _ => {}
        }
        let (kind, length) = if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        } else if c == '"' || c == '\'' {
            (Kind::Text, text_length(rest, c).ok_or_else(|| refusal(at, "the string has no end"))?)
        } else if c.is_ascii_digit() {
            (Kind::Number, run(rest, |c| c.is_ascii_alphanumeric() || c == '_'))
        } else if c.is_alphabetic() || c == '_' {
            (Kind::Name, run(rest, |c| c.is_alphanumeric() || c == '_'))
        } else {
            (Kind::Sign, c.len_utf8())
        };
        words.push(Word { kind, text: &rest[..length], at });
        at += length;
    }
}

fn run(rest: &str, part: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !part(c)).unwrap_or(rest.len())
}

fn text_length(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    rest.char_indices().skip(1).find_map(|(index, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(index + 1)
    })
}

/// The keyword of a statement tag and the index after it. A `-` or `+` for blanks may stand first.
fn statement_of<'a>(start: usize, words: &[Word<'a>]) -> Result<(&'a str, usize), Refusal> {
    let found = words.iter().enumerate().find(|(_, word)| word.kind == Kind::Name);
    let Some((index, word)) = found else {
        return Err(refusal(start, "a statement is missing after `{%`"));
    };
    match word.text {
        "include" | "import" | "from" | "extends" | "block" => Err(refusal(
            word.at,
            format!("`{}` is not allowed: a template stands alone", word.text),
        )),
        known if STATEMENTS.contains(&known) => Ok((known, index + 1)),
        unknown => Err(Refusal {
            at: word.at,
            message: format!("unknown statement `{unknown}`"),
            suggestion: nearest(unknown, STATEMENTS).map(|near| format!("did you mean `{near}`?")),
        }),
    }
}

/// The byte after `{% endraw %}`.
fn raw_end(source: &str, start: usize, mut at: usize) -> Result<usize, Refusal> {
    while let Some(found) = source[at..].find("{%") {
        let tag = at + found;
        let inner = source[tag + 2..].trim_start_matches(['-', '+']).trim_start();
        if inner.starts_with("endraw") {
            let end = source[tag..].find("%}").ok_or_else(|| refusal(tag, "`{%` has no `%}`"))?;
            return Ok(tag + end + 2);
        }
        at = tag + 2;
    }
    Err(refusal(start, "`raw` has no `endraw`"))
}

/// Holds one tag's words against the rules and collects its variables.
fn check(words: &[Word<'_>], statement: bool, scan: &mut Scan) -> Result<(), Refusal> {
    let mut built = 0;
    for (index, word) in words.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|i| words.get(i)).copied();
        let after = words.get(index + 1).copied();
        let is = |word: Option<Word<'_>>, sign: &str| {
            word.is_some_and(|word| word.kind == Kind::Sign && word.text == sign)
        };
        match (word.kind, word.text) {
            (Kind::Sign, "{" | "[") if word.text == "{" || !ends_value(before) => {
                let variables = variables_within(words, index);
                if variables > 0 && statement {
                    let message = "lists and maps of variables can be built in `{{ … }}` only";
                    return Err(refusal(word.at, message));
                }
                built += variables;
                if built > BUILT_MAX {
                    return Err(refusal(word.at, "too many names in lists and maps"));
                }
                if variables > 0 {
                    scan.built_at = scan.built_at.or(Some(word.at));
                }
            }
            (Kind::Sign, "(") if !ends_value(before) => no_tuple(words, index)?,
            (Kind::Sign, "=" | "!" | "<" | ">") if scan.repeated > 0 => {
                let right = words[index + 1..].iter().find(|w| w.text != "=");
                // A single `=` gives a name to a value.
                let sign = is(after, "=") || word.text == "<" || word.text == ">";
                scan.compares |= sign && !is_literal(before) && !is_literal(right.copied());
            }
            (Kind::Sign, "*") if is(after, "*") => {
                return Err(refusal(word.at, "`**` is not allowed"));
            }
            (Kind::Name, "default") if is(after, "=") => {
                // `map(default=x)` is a list of one value many times over.
                return Err(refusal(word.at, "`default=` is not allowed; write `|default(…)`"));
            }
            (Kind::Name, "recursive") => {
                return Err(refusal(word.at, "recursive loops are not allowed"));
            }
            (Kind::Name, name) if is(before, "|") => known("filter", name, &FILTERS, word.at)?,
            (Kind::Name, name) if is_test(words, index) => {
                known("test", name, &TESTS, word.at)?;
                scan.compares |= scan.repeated > 0 && is(after, "(");
            }
            (Kind::Name, name) if is(after, "(") && is(before, ".") => {
                return Err(Refusal {
                    at: word.at,
                    message: format!("values have no methods such as `{name}`"),
                    suggestion: FILTERS.contains(&name).then(|| format!("write `|{name}`")),
                });
            }
            (Kind::Name, "dict" | "namespace" | "debug") if is(after, "(") => {
                return Err(refusal(word.at, format!("`{}` is not allowed", word.text)));
            }
            (Kind::Name, _) if !is(before, ".") => {
                scan.chains.push(Chain { path: chain(words, index), at: word.at });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a word can be the end of a value, so that a bracket after it reads or calls it.
fn ends_value(word: Option<Word<'_>>) -> bool {
    const OPERATORS: [&str; 9] = ["in", "and", "or", "not", "if", "else", "is", "elif", "set"];
    word.is_some_and(|word| match word.kind {
        Kind::Name => !OPERATORS.contains(&word.text),
        Kind::Text => true,
        Kind::Number => false,
        Kind::Sign => matches!(word.text, ")" | "]"),
    })
}

/// Whether a word is a constant. A sign before is the first half of a longer sign.
fn is_literal(word: Option<Word<'_>>) -> bool {
    const CONSTANTS: [&str; 6] = ["true", "false", "none", "True", "False", "None"];
    word.is_some_and(|word| match word.kind {
        Kind::Name => CONSTANTS.contains(&word.text),
        Kind::Number | Kind::Text => true,
        Kind::Sign => matches!(word.text, "=" | "!" | "<" | ">" | "-"),
    })
}

/// How many names stand between a bracket and its end that are no constants.
///
/// A list of one variable twice, bound to a name and put into such a list again, is a thousand
/// million elements after thirty rounds, and nobody counts them until they are written. So lists
/// and maps of variables are only for what is shown at once, and may not be bound to a name.
fn variables_within(words: &[Word<'_>], open: usize) -> usize {
    let (mut depth, mut variables) = (0_usize, 0);
    for word in &words[open..] {
        match (word.kind, word.text) {
            (Kind::Sign, "[" | "{" | "(") => depth += 1,
            (Kind::Sign, "]" | "}" | ")") => depth = depth.saturating_sub(1),
            (Kind::Name, "true" | "false" | "none" | "True" | "False" | "None") => {}
            (Kind::Name, _) => variables += 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    variables
}

fn no_tuple(words: &[Word<'_>], open: usize) -> Result<(), Refusal> {
    let mut depth = 0_usize;
    for word in words[open..].iter().filter(|word| word.kind == Kind::Sign) {
        match word.text {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "," if depth == 1 => {
                return Err(refusal(word.at, "tuples cannot be built in a template"));
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    Ok(())
}

fn is_test(words: &[Word<'_>], index: usize) -> bool {
    let name = |back: usize| {
        let word = index.checked_sub(back).and_then(|i| words.get(i))?;
        (word.kind == Kind::Name).then_some(word.text)
    };
    match words[index].text {
        "not" => false,
        _ => name(1) == Some("is") || (name(1) == Some("not") && name(2) == Some("is")),
    }
}

fn known(what: &str, name: &str, names: &[&'static str], at: usize) -> Result<(), Refusal> {
    if names.contains(&name) {
        return Ok(());
    }
    let near = nearest(name, names.iter().copied());
    Err(Refusal {
        at,
        message: format!("unknown {what} `{name}`"),
        suggestion: near.map(|near| format!("did you mean `{near}`?")),
    })
}

/// The fixed path that starts at a name: `steps.a.b`, `steps["a"].b`.
fn chain(words: &[Word<'_>], start: usize) -> Vec<String> {
    let mut path = vec![words[start].text.to_owned()];
    let mut at = start + 1;
    let sign = |at: usize| words.get(at).filter(|word| word.kind == Kind::Sign).map(|w| w.text);
    let of_kind = |at: usize, kind: Kind| words.get(at).filter(|word| word.kind == kind);
    loop {
        match sign(at) {
            Some(".") => match of_kind(at + 1, Kind::Name) {
                Some(word) => {
                    path.push(word.text.to_owned());
                    at += 2;
                }
                None => return path,
            },
            Some("[") => match of_kind(at + 1, Kind::Text) {
                Some(word) if sign(at + 2) == Some("]") => {
                    path.push(word.text[1..word.text.len() - 1].to_owned());
                    at += 3;
                }
                Some(_) | None => return path,
            },
            _ => return path,
        }
    }
}
