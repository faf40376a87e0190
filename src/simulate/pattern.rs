//! A text that matches a simple regular expression.
//!
//! Literals, classes, `\d \w \s`, `.`, counted and open repetition and anchors are understood; no
//! groups or alternatives. Whatever is made is checked with the real thing, so that a pattern that
//! is not understood gives nothing instead of something wrong.

use std::iter::Peekable;
use std::str::Chars;

use super::chance::Luck;
use super::matcher::compile_regex;

const REPEATS_MAX: u32 = 200;

/// A text that matches, if one can be made.
pub fn example(pattern: &str, luck: Luck) -> Option<String> {
    let made = make(pattern, luck)?;
    let regex = compile_regex(pattern).ok()?;
    regex.is_match(&made).then_some(made)
}

fn make(pattern: &str, luck: Luck) -> Option<String> {
    let mut rest = pattern.chars().peekable();
    let mut made = String::new();
    let mut place = 0;
    while let Some(c) = rest.next() {
        let choices: Vec<char> = match c {
            '^' | '$' => continue,
            '(' | ')' | '|' => return None,
            '[' => class(&mut rest)?,
            '\\' => escaped(rest.next()?)?,
            '.' => vec!['a', 'b', 'c'],
            literal => vec![literal],
        };
        for _ in 0..repeats(&mut rest)? {
            place += 1;
            let idx = luck.of_number(place).below(choices.len() as u64);
            made.push(*choices.get(usize::try_from(idx).ok()?)?);
        }
    }
    Some(made)
}

fn escaped(c: char) -> Option<Vec<char>> {
    Some(match c {
        'd' => ('0'..='9').collect(),
        'w' => ('a'..='z').collect(),
        's' => vec![' '],
        c if c.is_ascii_alphanumeric() => return None,
        literal => vec![literal],
    })
}

fn class(rest: &mut Peekable<Chars<'_>>) -> Option<Vec<char>> {
    let mut choices: Vec<char> = Vec::new();
    loop {
        match rest.next()? {
            ']' if !choices.is_empty() => return Some(choices),
            '^' if choices.is_empty() => return None,
            '\\' => choices.extend(escaped(rest.next()?)?),
            '-' if !choices.is_empty() && rest.peek().is_some_and(|c| *c != ']') => {
                let (from, to) = (*choices.last()?, rest.next()?);
                choices.extend((from..=to).skip(1).take(128));
            }
            literal => choices.push(literal),
        }
    }
}

/// How often the piece before is repeated: the least that is allowed, at least once for `*`.
fn repeats(rest: &mut Peekable<Chars<'_>>) -> Option<u32> {
    match rest.peek() {
        Some('*' | '+' | '?') => {
            rest.next();
            Some(1)
        }
        Some('{') => {
            rest.next();
            let counts: String = rest.by_ref().take_while(|c| *c != '}').collect();
            let least = counts.split(',').next()?.trim().parse::<u32>().ok()?;
            (least <= REPEATS_MAX).then_some(least)
        }
        _ => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_patterns_have_examples() {
        for pattern in
            ["^[A-Z]{3}-\\d{4}$", "^INC\\.[0-9]+$", "[a-f0-9]{8}", "^\\w+@\\w+\\.com$", "^a?b*c$"]
        {
            let made = example(pattern, Luck::seeded(2)).unwrap();
            assert!(compile_regex(pattern).unwrap().is_match(&made), "{pattern}: {made}");
        }
    }

    #[test]
    fn what_is_not_understood_gives_nothing() {
        for pattern in ["^(a|b)$", "[^a]", "a{9999}", "(", "\\bword", "[z-a]x"] {
            let made = example(pattern, Luck::seeded(2));
            assert!(made.is_none_or(|made| compile_regex(pattern).unwrap().is_match(&made)));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_made_matches(pattern in "[a-c\\[\\]\\\\dw{}0-3,+*?.^$|()-]{0,16}") {
            if let Some(made) = example(&pattern, Luck::seeded(9)) {
                proptest::prop_assert!(compile_regex(&pattern).unwrap().is_match(&made));
            }
        }
    }
}
