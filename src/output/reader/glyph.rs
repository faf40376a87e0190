//! Which characters stand for JSON's own.
//!
//! Models write full-width punctuation, curly quotes and invisible spaces; outside strings they
//! can only mean one thing, inside strings they are data.

/// How a quote can end a string that another quote began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// The natural partner.
    Partner,
    /// A quote of the same weight from another style: it ends the string only on good evidence.
    Relative,
    /// Data.
    No,
}

/// Full-width punctuation as JSON writes it.
pub(super) fn plain(c: char) -> char {
    match c {
        '｛' => '{',
        '｝' => '}',
        '［' | '【' => '[',
        '］' | '】' => ']',
        '：' => ':',
        '，' | '、' => ',',
        '；' => ';',
        '（' => '(',
        '）' => ')',
        '＝' => '=',
        other => other,
    }
}

/// The ASCII digit that a full-width digit stands for.
pub(in crate::output) fn wide_digit(c: char) -> Option<char> {
    matches!(c, '０'..='９').then(|| char::from_digit(u32::from(c) - u32::from('０'), 10))?
}

/// White space, control characters and invisible ones.
pub(in crate::output) fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// A quote that can begin a string.
pub(in crate::output) fn is_quote(c: char) -> bool {
    matches!(
        c,
        '"' | '\''
            | '`'
            | '´'
            | '“'
            | '”'
            | '„'
            | '‟'
            | '＂'
            | '«'
            | '»'
            | '「'
            | '『'
            | '‘'
            | '’'
            | '‚'
            | '‛'
            | '＇'
    )
}

/// What `c` does inside a string that `opener` began.
pub(super) fn closing(opener: char, c: char) -> Closing {
    let (partner, relative) = match opener {
        '"' => (c == '"', matches!(c, '”' | '“' | '„' | '＂')),
        '“' | '”' | '„' | '‟' | '＂' => (matches!(c, '”' | '“' | '＂'), c == '"'),
        '«' => (c == '»', false),
        '»' => (c == '«' || c == '»', false),
        '「' => (c == '」', false),
        '『' => (c == '』', false),
        '\'' => (c == '\'', matches!(c, '’' | '‘')),
        '‘' | '’' | '‚' | '‛' | '＇' => (matches!(c, '’' | '‘' | '＇'), c == '\''),
        '`' => (c == '`', c == '´'),
        '´' => (c == '´', c == '`'),
        _ => (false, false),
    };
    match (partner, relative) {
        (true, _) => Closing::Partner,
        (false, true) => Closing::Relative,
        (false, false) => Closing::No,
    }
}

/// A curly quote that opens a quotation inside a string.
pub(super) fn opens_inside(c: char) -> bool {
    matches!(c, '“' | '„' | '‘' | '‚')
}

/// Can be a part of an unquoted key.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '-' | '.')
}

/// A literal of JSON or of another language.
pub(super) fn is_literal(word: &str) -> bool {
    matches!(
        word,
        "true"
            | "false"
            | "null"
            | "True"
            | "False"
            | "None"
            | "TRUE"
            | "FALSE"
            | "NULL"
            | "Null"
            | "nil"
            | "NaN"
            | "nan"
            | "Infinity"
            | "undefined"
            | "inf"
            | "NIL"
            | "NONE"
    )
}
