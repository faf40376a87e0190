//! What was done to a model's text on the way to a value, in a closed list with stable names.
//!
//! A repair that is not told is a silent corruption: the names here are what a caller, a span and
//! the journal see, so they are stable, carry no value, and say for themselves whether the
//! meaning is certainly kept ([`ChangeKind::is_lossy`]). The verdict is derived from them and
//! from nothing else, so a lossy change cannot be reported as a plain repair.

use std::fmt;

/// Where a change was made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// Byte offset into the reply's text; approximate where the text had to be unescaped first.
    Offset(usize),
    /// JSON Pointer (RFC 6901) into the value.
    Pointer(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(at) => write!(f, "text:{at}"),
            Self::Pointer(path) => f.write_str(path),
        }
    }
}

/// One change: what and where, never the value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// What was done.
    pub kind: ChangeKind,
    /// Where.
    pub place: Place,
}

macro_rules! changes {
    ($($variant:ident $name:literal $lossy:literal $doc:literal;)*) => {
        /// The closed list of changes. The names are stable on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ChangeKind { $(#[doc = $doc] $variant,)* }

        impl ChangeKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether something was cut, dropped, picked or guessed.
            pub const fn is_lossy(self) -> bool {
                match self { $(Self::$variant => $lossy,)* }
            }

            /// One line on what it means.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

changes! {
    FenceRemoved "fence_removed" false "A code fence around the value was taken off.";
    ProseRemoved "prose_removed" false "Text before or after the value was left out.";
    ReasoningRemoved "reasoning_removed" false "Reasoning before the answer was left out.";
    MarkerRemoved "marker_removed" false "A byte order mark or a chat marker was left out.";
    LinePrefixRemoved "line_prefix_removed" false "A quote or diff sign before every line was taken off.";
    EscapingRemoved "escaping_removed" false "The whole text was escaped once too often.";
    QuoteStyle "quote_style" false "Quotes of another style became plain double quotes.";
    QuoteAdded "quote_added" false "An unquoted word, or one without its opening quote, became a string.";
    QuoteDoubled "quote_doubled" false "A doubled quote became a single one.";
    InnerQuote "inner_quote" false "A quote inside a string was not escaped.";
    ControlCharacter "control_character" false "A raw control character inside a string was kept.";
    EscapeFixed "escape_fixed" false "An escape that JSON does not know was read literally.";
    CommentRemoved "comment_removed" false "A comment was left out.";
    CommaRemoved "comma_removed" false "A trailing comma was left out.";
    CommaAdded "comma_added" false "A missing comma was added, or one of another style replaced.";
    ColonFixed "colon_fixed" false "A missing colon was added, or one of another style replaced.";
    LiteralStyle "literal_style" false "True, None and the like became JSON's literals.";
    NumberStyle "number_style" false "A number in another notation was written as JSON writes it.";
    PunctuationStyle "punctuation_style" false "Full-width punctuation became plain.";
    BracketStyle "bracket_style" false "Brackets of another kind (a tuple, doubled braces) became JSON's.";
    CallRemoved "call_removed" false "A type wrapper around a value was taken off.";
    StringsJoined "strings_joined" false "Concatenated strings became one.";
    CloserSurplus "closer_surplus" false "A surplus or wrong closing bracket at the very end was left out.";
    ValuesCollected "values_collected" false "Several values became the items of one list.";
    TextDecoded "text_decoded" false "JSON inside a string was decoded where the schema wants a structure.";
    NumberFromText "number_from_text" false "A string became the number that it spells.";
    BooleanFromText "boolean_from_text" false "A string became the boolean that it spells.";
    NullFromText "null_from_text" false "A string became the null that it spells.";
    TextFromScalar "text_from_scalar" false "A number or boolean became the string that spells it.";
    EnumSpelling "enum_spelling" false "A value was spelled as the one member of the enum that it can mean.";
    ListAdded "list_added" false "A single value became a list of one.";
    ListRemoved "list_removed" false "A list of one became its only item.";
    WrapperRemoved "wrapper_removed" false "A wrapper object with a single member was taken off.";
    WrapperAdded "wrapper_added" false "A value was put under the only member that the schema has.";
    KeyRenamed "key_renamed" false "A member's name was spelled as the schema spells it.";
    NullRemoved "null_removed" false "A null for an optional member was left out.";
    CutAfterValue "cut_after_value" false "The provider cut the reply after the value was complete.";
    Continued "continued" false "The reply was cut, and the model wrote the rest when asked to.";
    OverlapRemoved "overlap_removed" false "The rest began with a long repetition of the end of what came before.";
    CloserAdded "closer_added" true "A closing bracket was missing.";
    CloserMoved "closer_moved" true "A closing bracket in the middle was left out or read as another.";
    OpenerAdded "opener_added" true "The opening bracket was missing.";
    QuoteGuessed "quote_guessed" true "Where a string ends had to be guessed.";
    TailMissing "tail_missing" true "The text ends inside the value.";
    TailDropped "tail_dropped" true "An incomplete part at the end was left out.";
    CutReply "cut_reply" true "The provider cut the reply, and more may have been due.";
    ValueMissing "value_missing" true "A member or an item without a value was left out.";
    WordsDropped "words_dropped" true "Words between values were left out.";
    ElisionDropped "elision_dropped" true "The text says that data was left out.";
    KeyDuplicate "key_duplicate" true "A key came twice with different values; the last one was kept.";
    LiteralGuessed "literal_guessed" true "A value that JSON cannot hold (NaN, undefined) was replaced.";
    NumberGuessed "number_guessed" true "A number had more than one reading.";
    EscapeGuessed "escape_guessed" true "An escape had more than one reading, or none.";
    TextGuessed "text_guessed" true "Unquoted text had to be delimited by guessing.";
    CandidatePicked "candidate_picked" true "Several different values were found and one was picked.";
    ResidueDropped "residue_dropped" true "Text after the value that looks like a part of it was left out.";
    UnitDropped "unit_dropped" true "A unit, a percent sign or a currency was dropped from a number.";
    BooleanGuessed "boolean_guessed" true "A number was read as a boolean.";
    NullGuessed "null_guessed" true "A word for a missing value was read as null.";
    MemberDropped "member_dropped" true "A member that the schema does not allow was left out.";
    BranchGuessed "branch_guessed" true "Several branches of a union fit with different values.";
}

/// Changes as they are noted. Bounded: a megabyte of faults keeps a page of notes and a count, but
/// never loses whether one of them was lossy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    listed: Vec<Change>,
    omitted: usize,
    lossy: bool,
}

impl Changes {
    /// Changes listed at most; the rest is counted.
    pub const LISTED_MAX: usize = 64;

    /// Notes a change.
    pub fn push(&mut self, kind: ChangeKind, place: Place) {
        self.lossy |= kind.is_lossy();
        if self.listed.len() < Self::LISTED_MAX {
            self.listed.push(Change { kind, place });
            return;
        }
        self.omitted += 1;
        // The first page may hold only harmless notes; the first lossy one takes the last line, so
        // that a reader of the list always sees why the verdict is lossy.
        if kind.is_lossy() && !self.listed.iter().any(|change| change.kind.is_lossy()) {
            self.listed.pop();
            self.listed.push(Change { kind, place });
        }
    }

    /// Notes a change at a byte offset.
    pub fn at(&mut self, kind: ChangeKind, offset: usize) {
        self.push(kind, Place::Offset(offset));
    }

    /// Notes a change at a JSON Pointer.
    pub fn on(&mut self, kind: ChangeKind, pointer: impl Into<String>) {
        self.push(kind, Place::Pointer(pointer.into()));
    }

    /// Appends what others noted.
    pub fn extend(&mut self, other: &Self) {
        for change in &other.listed {
            self.push(change.kind, change.place.clone());
        }
        self.omitted += other.omitted;
        self.lossy |= other.lossy;
    }

    /// The changes listed, in the order in which they were made.
    pub fn listed(&self) -> &[Change] {
        &self.listed
    }

    /// How many more there were.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// True when nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// True when one of them, listed or not, was lossy.
    pub fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// True when a change of this kind is listed.
    pub fn has(&self, kind: ChangeKind) -> bool {
        self.listed.iter().any(|change| change.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ChangeKind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ChangeKind::ALL.len());
    }

    #[test]
    fn a_lossy_change_is_listed_even_when_the_page_is_full() {
        let mut changes = Changes::default();
        for offset in 0..1000 {
            changes.at(ChangeKind::CommaRemoved, offset);
        }
        changes.at(ChangeKind::TailMissing, 1000);
        assert!(changes.is_lossy() && changes.has(ChangeKind::TailMissing));
        assert_eq!(changes.listed().len() + changes.omitted(), 1001);
    }
}
