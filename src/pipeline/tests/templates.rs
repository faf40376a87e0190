use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::{draft, refused, text_of};
use crate::failure::FailureCause;
use crate::pipeline::{Known, compile_step};

#[track_caller]
fn shows(template: &str, expected: &str) {
    let step = compile_step(&draft(template), &Known::default(), &[]).unwrap();
    let input = json!({
        "z": 1, "a": {"y": true, "b": null}, "list": ["x", 2, 2.5], "text": "{{ 7*7 }}",
        "big": 9_007_199_254_740_993_u64,
    });
    assert_eq!(text_of(&step, &input).unwrap(), expected, "{template}");
}

#[track_caller]
fn breaks(template: &str, cause: FailureCause, expected: &str) {
    let step = compile_step(&draft(template), &Known::default(), &[]).unwrap();
    let input = json!({"a": {"b": 1}, "secret": "hunter2", "list": ["hunter2"]});
    let failure = text_of(&step, &input).unwrap_err();
    assert_eq!((failure.cause, failure.message.as_str()), (cause, expected), "{template}");
}

#[test]
fn templates_show_values_as_json() {
    shows("{{ input.a }} {{ input.list }}", r#"{"y":true,"b":null} ["x",2,2.5]"#);
    shows("{{ input.a.y }} {{ input.a.b }} {{ input.z }}", "true null 1");
    shows("{{ input.list|join(', ') }}", "x, 2, 2.5");
    shows("{{ input.big }} {{ input.big + 1 }}", "9007199254740993 9007199254740994");
    shows(
        "{{ input|tojson }}{# gone #}",
        r#"{"z": 1, "a": {"y": true, "b": null}, "list": ["x", 2, 2.5], "text": "{{ 7*7 }}", "big": 9007199254740993}"#,
    );
    shows("{% for x in input.list %}{{ loop.index }}={{ x }} {% endfor %}", "1=x 2=2 3=2.5 ");
    shows("{% if input.nothing is defined %}a{% else %}b{% endif %}", "b");
    shows("{{ input.nothing|default('c') }}", "c");
    shows(
        "{{ {'a': input.z, 'b': {'c': [input.z, 2]}}|tojson }}",
        r#"{"a": 1, "b": {"c": [1, 2]}}"#,
    );
    shows("{{ run.id }} {{ run.labels.team }}", "run-1 ops");
    shows(
        "{% for x in range(2500) %}{% if x == 2499 and 1 < x %}{{ x }}{% endif %}{% endfor %}",
        "2499",
    );
    shows("{% raw %}{{ not this }}{% endraw %} {{ '}}' }}", "{{ not this }} }}");
    shows("{% set n = input.list|length %}{{ n * 2 if n in [1, 3] else 0 }}", "6");
    shows("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(input.z) }}", "<1>");
    shows("no template: { } % #", "no template: { } % #");
}

/// What a model or a caller wrote is data, whatever it looks like.
#[test]
fn output_is_never_a_template() {
    shows("{{ input.text }}", "{{ 7*7 }}");
}

#[test]
fn failures_name_the_variable_and_never_a_value() {
    use FailureCause::{MissingInput, TemplateError};
    let missing = |path: &str, line: u8| {
        format!("message 1: `{path}` is absent (line {line} of the template)")
    };
    breaks("{{ input.document }}", MissingInput, &missing("input.document", 1));
    breaks("a\n{{ input.a.c|upper }}", MissingInput, &missing("input.a.c", 2));
    breaks("{{ input['x y'] }}", MissingInput, &missing("a variable", 1));
    breaks("{% for x in input.none %}{% endfor %}", MissingInput, &missing("input.none", 1));
    breaks(
        "{% for x in input.list %}{{ x.name }}{% endfor %}",
        MissingInput,
        &missing("x.name", 1),
    );
    breaks("{{ input.n + 1 }}", MissingInput, &missing("input.n", 1));
    breaks("{{ 1 + input.n }}", MissingInput, &missing("input.n", 1));
    let broken = |what: &str| format!("message 1: {what} (line 1 of the template)");
    breaks("{{ input.secret + 1 }}", TemplateError, &broken("a value does not fit the operation"));
    breaks("{{ input.secret|int }}", TemplateError, &broken("a value does not fit the operation"));
    breaks(
        "{{ range(input.secret) }}",
        TemplateError,
        &broken("a value does not fit the operation"),
    );
    breaks(
        "{{ '' }}",
        TemplateError,
        "no message is left after rendering that the model could answer",
    );
}

#[test]
fn what_no_prompt_needs_is_refused() {
    let all = [
        "{% include 'a' %}",
        "{% extends 'a' %}",
        "{% import 'a' as b %}",
        "{% from 'a' import b %}",
        "{% block x %}{% endblock %}",
        "{% fro x in input.a %}{% endfor %}",
        "{{ input.a|uper }}",
        "{{ input.a is define }}",
        "{{ input.a.upper() }}",
        "{{ namespace(x=1) }}",
        "{% set x = [input.a, input.a] %}",
        "{% for x in [{'a': input.a}] %}{% endfor %}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ m([input.a, input.a]) }}",
        &format!("{{{{ [{}]|length }}}}", "input.a,".repeat(20)),
        "{{ (input.a, input.a) }}",
        "{% for x in input.a recursive %}{% endfor %}",
        "{{ input.a|map(attribute='x', default=input.a) }}",
        "{{ foo }}",
        "{{ steps.other }}",
        "{{ steps['my-step'].text }} {{ skipped[\"other\"] }}",
        "{{ item }}",
        "{{ input.a",
        "line one\n{{ input.a b }}",
        "{# no end",
        "{% raw %}",
        "  ",
    ];
    let table: Vec<String> =
        all.iter().map(|text| format!("{text}\n  {}", refused(&draft(text)))).collect();
    insta::assert_snapshot!(table.join("\n"));
}

/// Growing texts, endless loops and deep nesting: each refused when it is compiled or stopped when
/// it is rendered, in a bounded time, in a small stack.
#[test]
fn template_bombs_are_stopped() {
    let doubling: String =
        (0..60).map(|i| format!("{{% set a{} = a{i} ~ a{i} %}}", i + 1)).collect();
    let macros = format!(
        "{{% macro m(x) %}}{{{{x}}}}{{{{x}}}}{{% endmacro %}}{{{{ {}input.doc{} }}}}",
        "m(".repeat(40),
        ")".repeat(40)
    );
    let bombs = [
        format!("{{% set a0 = input.doc %}}{doubling}{{{{ a60|length }}}}"),
        macros,
        "{{ (input.doc * 100000)|length }}".to_owned(),
        "{% for i in range(2500) %}{{ 1 if input.doc == input.doc2 }}{% endfor %}".to_owned(),
        "{% for i in range(2500) %}{{ 1 if input.doc is eq(input.doc2) }}{% endfor %}".to_owned(),
        "{{ '%2000000000d'|format(1)|length }}".to_owned(),
        "{{ input.doc|replace('a', input.doc)|length }}".to_owned(),
        "{{ input.doc|indent(2000000000) }}".to_owned(),
        "{{ range(50000)|join(input.doc) }}".to_owned(),
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}".into(),
        "{% for i in range(20000) %}{{ input.doc }}{% endfor %}".to_owned(),
        "{% set x %}{% for i in range(20000) %}{{ input.doc }}{% endfor %}{% endset %}".into(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{{ ".to_owned() + &"(".repeat(30_000),
        "{{ ".to_owned() + &"not ".repeat(15_000) + "input }}",
        "{{ input".to_owned() + &".a".repeat(30_000) + " }}",
        "{{ input".to_owned() + &"|upper".repeat(10_000) + " }}",
        "{% if input %}".to_owned() + &"{% elif input %}".repeat(3_000) + "{% endif %}",
        "{% if input %}".repeat(4_000),
        "{{ 9**9**9 }}".to_owned(),
        (0..4_000).map(|i| format!("{{{{input.v{i}}}}}")).collect(),
        "{{input.a}}{{x}}".repeat(4_000),
        "x".repeat(70_000),
    ];
    let input = json!({"doc": "a".repeat(1 << 18), "doc2": "a".repeat((1 << 18) - 1) + "b"});
    for bomb in bombs {
        let began = Instant::now();
        let stopped = match compile_step(&draft(&bomb), &Known::default(), &[]) {
            Ok(step) => text_of(&step, &input).is_err(),
            Err(_) => true,
        };
        let name: String = bomb.chars().take(60).collect();
        assert!(stopped, "{name}");
        assert!(began.elapsed() < Duration::from_secs(5), "{name}: {:?}", began.elapsed());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands in a template, it is refused, or it renders to at most the limit, or it
    /// fails; nothing panics.
    #[test]
    fn any_template_ends(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "{{", "}}", "{%", "%}", "{#", "#}", " input", ".a", "[0]", "['a']", "|upper",
                "|length", " for x in ", "for", " endfor ", " if ", " else ", " endif ", " set y=",
                " raw ", " endraw ", "(", ")", "[", "]", ",", "\"", "'", "~", "+", "1", " is ",
                " not ", " none", "\n", "ä", "-", "text", "|default(1)", " x", " and ", "{", "%",
            ]),
            0..24,
        ),
    ) {
        let source = pieces.concat();
        if let Ok(step) = compile_step(&draft(&source), &Known::default(), &[])
            && let Ok(text) = text_of(&step, &json!({"a": ["b", {"a": 1}]}))
        {
            prop_assert!(text.len() <= 1024 * 1024);
        }
    }
}
