mod judge;
mod templates;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::document::Document;
use crate::exchange::Part;
use crate::failure::{FailureCause, Violation};

#[track_caller]
fn good(text: &str) -> Pipeline {
    let document = Document::parse("p.yaml", text).unwrap();
    match compile(&document, &Known::default()) {
        Ok((pipeline, warnings)) => {
            assert_eq!(warnings.to_string(), "");
            pipeline
        }
        Err(problems) => panic!("{problems}"),
    }
}

fn bad(text: &str) -> String {
    let document = Document::parse("p.yaml", text).unwrap();
    let known =
        Known { targets: Some(&["primary", "secondary"]), policies: Some(&["default", "strict"]) };
    match compile(&document, &known) {
        Ok((_, warnings)) => warnings.to_string(),
        Err(problems) => document.render(&problems, false),
    }
}

/// A step whose prompt is this template, as it would come with a request.
fn draft(template: &str) -> StepDraft {
    StepDraft {
        name: "s".into(),
        prompt: document::RawPrompt::Text(template.into()),
        ..StepDraft::default()
    }
}

#[track_caller]
fn refused(draft: &StepDraft) -> String {
    let problems = compile_step(draft, &Known::default(), &[]).unwrap_err();
    let lines: Vec<String> =
        problems.iter().map(|p| format!("{}: {}", p.field_path, p.message)).collect();
    lines.join("\n")
}

fn text_of(step: &Step, input: &Value) -> Result<String, crate::failure::Failure> {
    let labels = BTreeMap::from([("team".to_owned(), "ops".to_owned())]);
    let scope = Scope::new(input, &[], "run-1", &labels);
    let messages = step.messages(&scope)?;
    Ok(messages
        .iter()
        .flat_map(|message| &message.parts)
        .map(|part| match part {
            Part::Text(text) => text.expose().to_owned(),
            Part::ImageUrl(url) => url.expose().to_owned(),
            Part::ImageData { media_type, base64 } => format!("{media_type};{}", base64.expose()),
        })
        .collect())
}

/// Whatever ships compiles without a warning, and its first step has something to say.
#[test]
fn the_shipped_pipelines_compile_and_render() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config/pipelines");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let pipeline = good(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
        let input = json!({"document": "Bob broke the router."});
        assert_eq!(pipeline.check_input(&input), Ok(()));
        assert!(text_of(&pipeline.steps[0], &input).unwrap().contains("Bob broke the router."));
        seen += 1;
    }
    assert!(seen >= 2);
}

#[test]
fn a_run_from_its_input_to_its_output() {
    let report = good(
        r#"
name: report
input_schema: {type: object, required: [document], properties: {n: {type: integer}}}
steps:
  - name: extract
    prompt: "{{ input.document }}"
    output: {json: {}}
  - name: classify
    for_each: steps.extract.entities
    prompt:
      - system: "Entity {{ index + 1 }}"
      - user: |
          {{ item.name }} ({{ item.kind }})

          {{ input.document }}
    output: {json: {}}
  - name: summarise
    prompt: |
      Entities:
      {% for entity in steps.classify if entity is not none %}
      - {{ entity.name }}: {{ entity.role }}
      {% endfor %}
      Done.
output:
  summary: steps.summarise
  entities: steps.classify.filter(entity, entity != null)
"#,
    );
    assert_eq!(report.steps[2].ancestors, [0, 1]);
    let (input, labels) = (json!({"document": "Bob broke it."}), BTreeMap::new());
    let extracted = json!({"entities": [{"name": "Bob", "kind": "person"}]});
    let classified = json!([{"name": "Bob", "role": "cause"}, null]);
    let summary = json!("All is well.");
    let views = [
        StepView { name: "extract", output: &extracted, skipped: false },
        StepView { name: "classify", output: &classified, skipped: false },
        StepView { name: "summarise", output: &summary, skipped: false },
    ];
    let scope = Scope::new(&input, &views, "r", &labels);
    let said = |step: usize, scope: &Scope<'_>| -> Vec<String> {
        let messages = report.steps[step].messages(scope).unwrap();
        let parts = messages.iter().flat_map(|message| &message.parts);
        parts
            .map(|part| match part {
                Part::Text(text) => text.expose().to_owned(),
                Part::ImageUrl(_) | Part::ImageData { .. } => String::new(),
            })
            .collect()
    };
    let items = report.steps[1].elements(&scope).unwrap().unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(
        said(1, &scope.with_element(&items[0], 0)),
        ["Entity 1", "Bob (person)\n\nBob broke it."]
    );
    assert_eq!(report.steps[1].messages(&scope).unwrap_err().cause, FailureCause::MissingInput);
    assert_eq!(said(2, &scope), ["Entities:\n- Bob: cause\nDone."]);
    assert_eq!(
        report.result(&scope).unwrap(),
        json!({"summary": "All is well.", "entities": [classified[0]]})
    );
}

#[test]
fn every_mistake_is_shown_at_once_in_its_place() {
    insta::assert_snapshot!(bad(r#"
name: Report
policy: strikt
input_schema: {type: objekt}
steps:
  - name: first
    targets: [primary, secundary]
    prompt:
      - system: "Say {{ imput.a }} and {{ steps.second }}"
      - user: |
          Two lines,
            of {{ input.text|uper }} here
      - {user: a, system: b}
  - name: second
    needs: [first, thrid]
    when: input.count >
    for_each: {items: steps.frist.list, parallelism: 65}
    prompt: "{% include 'x' %}"
    output: {json: {schema: {type: object, required: 3}}}
    rules: [{check: output.a, message: no}]
  - name: second
    needs: []
    prompt: []
    output: {json: {schema: {$ref: "https://example.com/s.json"}}}
    timeout: 0s
    extra: {model: other}
  - name: third
    prompt: '{{ steps.first }}'
output: thrd
"#));
}

/// A mistake in the structure hides nothing else, unless it is in the names or the order of steps.
#[test]
fn one_mistake_hides_no_other() {
    let places = |text: &str| -> Vec<String> {
        let document = Document::parse("p.yaml", text).unwrap();
        let problems = compile(&document, &Known::default()).unwrap_err();
        problems.0.iter().map(|problem| problem.dotted_path()).collect()
    };
    let text = "\
name: p
foo: 1
steps:
  - name: a
    prompt: '{{ inptu.x }}'
    for_each: 3
    tools: [{nme: t}]
    tool_choice: t
    rules:
      - {chek: output.x > 1, message: m}
      - {check: outptu.x > 1, message: m}
    confidence: {expression: outptu.x, minimum: high}
  - name: b
    prompt: [{user: '{{ item }}'}, {usr: x}]
    needs: [a, zz]
output: c
";
    assert_eq!(
        places(text),
        [
            "foo",
            "steps[0].prompt",
            "steps[0].for_each",
            "steps[0].tools[0]",
            "steps[0].tools[0].nme",
            "steps[0].rules[0]",
            "steps[0].rules[0].chek",
            "steps[0].rules[1].check",
            "steps[0].confidence.expression",
            "steps[0].confidence.minimum",
            "steps[1].prompt[0].user",
            "steps[1].prompt[1].usr",
            "steps[1].needs[1]",
            "output",
        ]
    );
    let nameless = "name: p\nsteps: [{nme: a, prompt: x}, {name: b, needs: [a], prompt: x}]";
    assert_eq!(places(nameless), ["steps[0]", "steps[0].nme"]);
}

#[test]
fn structure_and_cycles() {
    insta::assert_snapshot!(bad(
        "name: a\nsteps:\n  - {name: x, propmt: hi, max_attempts: 99}\n  - name: y\n    prompt: 3\n"
    ));
    insta::assert_snapshot!(bad(
        "name: a\nsteps:\n  - {name: x, needs: [z], prompt: hi}\n  - {name: y, prompt: hi}\n  \
         - {name: z, prompt: hi}\n"
    ));
    assert!(bad("name: a\nsteps: []").contains("a pipeline has at least one step"));
    let many: String = (0..65).map(|i| format!("  - {{name: s{i}, prompt: hi}}\n")).collect();
    assert!(bad(&format!("name: a\nsteps:\n{many}")).contains("65 steps; at most 64"));
    let unused =
        "name: a\nsteps:\n  - {name: x, prompt: hi}\n  - {name: y, needs: [], prompt: hi}\n";
    assert_eq!(
        bad(unused),
        "3:12: warning: steps[0].name: nothing uses the output of step `x` (name it in `needs` or in `output`)"
    );
}

#[test]
fn steps_become_ready_in_order() {
    let pipeline = good(
        "name: a\nsteps:\n  - {name: a, prompt: x}\n  - {name: b, prompt: x}\n  \
         - {name: c, needs: [a], prompt: x}\n  - {name: d, needs: [b, c], prompt: x}\n",
    );
    let ready = |done: [bool; 4]| pipeline.ready(&done).collect::<Vec<_>>();
    assert_eq!(ready([false; 4]), [0]);
    assert_eq!(ready([true, false, false, false]), [1, 2]);
    assert_eq!(ready([true, true, true, false]), [3]);
    assert_eq!(ready([true; 4]), [0; 0]);
    assert_eq!(pipeline.dependents(1).collect::<Vec<_>>(), [3]);
    assert_eq!(pipeline.step_index("c"), Some(2));
}

#[test]
fn digests_follow_the_meaning_and_not_the_spelling() {
    let one = good("name: a\nsteps: [{name: a, prompt: x, timeout: 60s, max_attempts: 2}]");
    let two =
        good("steps:\n  - max_attempts: 2\n    timeout: 1m\n    prompt: x\n    name: a\nname: a");
    let three = good("name: a\nsteps: [{name: a, prompt: y, timeout: 60s, max_attempts: 2}]");
    assert_eq!(one.digest(), two.digest());
    assert_eq!(one.steps[0].digest(), two.steps[0].digest());
    assert_ne!(one.digest(), three.digest());
    assert_eq!(one.digest().len(), 64);
    assert_ne!(one.steps[0].digest(), three.steps[0].digest());
    let unprompted = |pipeline: &Pipeline| *pipeline.steps[0].digest_without_prompt();
    assert_eq!(unprompted(&one), unprompted(&three));
    let four = good("name: a\nsteps: [{name: a, prompt: x, timeout: 60s, max_attempts: 3}]");
    assert_ne!(unprompted(&one), unprompted(&four));
}

#[test]
fn drafts_name_their_fields() {
    use document::{RawContent, RawImageData, RawMessage, RawPart};
    let part = RawPart { text: Some("{{ input.a".into()), ..RawPart::default() };
    let step = StepDraft {
        name: "A".into(),
        needs: Some(vec!["other".into()]),
        when: Some("input.a ==".into()),
        prompt: document::RawPrompt::Messages(vec![RawMessage {
            user: Some(RawContent::Parts(vec![part])),
            ..RawMessage::default()
        }]),
        max_attempts: Some(0),
        max_cost_usd: Some(f64::NAN),
        tool_choice: Some("required".into()),
        ..StepDraft::default()
    };
    insta::assert_snapshot!(refused(&step));

    let image = |media_type: &str, data: &str| {
        let image_data = Some(RawImageData { media_type: media_type.into(), data: data.into() });
        let part = RawPart { image_data, ..RawPart::default() };
        let draft = StepDraft {
            name: "s".into(),
            prompt: document::RawPrompt::Messages(vec![RawMessage {
                user: Some(RawContent::Parts(vec![part])),
                ..RawMessage::default()
            }]),
            ..StepDraft::default()
        };
        let step = compile_step(&draft, &Known::default(), &[]).unwrap();
        let result = text_of(&step, &json!({"image": "aGk=\n", "type": "image/PNG"}));
        result.map_err(|failure| failure.message)
    };
    assert_eq!(image("{{ input.type }}", "{{ input.image }}"), Ok("image/png;aGk=".into()));
    assert_eq!(image("image/png", "!"), Err("message 1: an image's data is not base64".into()));
    assert!(image("text/html", "{{ input.image }}").unwrap_err().contains("media type"));
}

#[test]
fn input_is_held_against_its_schema() {
    let pipeline = good(
        "name: a\ninput_schema: {type: object, required: [document], properties: {n: {type: \
         integer}}}\nsteps: [{name: a, prompt: x}]",
    );
    let failure = pipeline.check_input(&json!({"n": "many"})).unwrap_err();
    assert_eq!(failure.cause, FailureCause::InvalidRequest);
    let mut lines: Vec<String> =
        failure.violations.iter().map(|v| format!("{}: {}", v.path, v.message)).collect();
    lines.sort();
    assert_eq!(lines, ["/n: breaks the rule `type` of the schema", ": `document` is missing"]);
}

#[test]
fn output_checks_compile() {
    let text = "name: a\nsteps:\n  - name: s\n    prompt: hi\n    output: {json: {}}\n    \
        rules: [{check: output.a > 1, message: too small, severity: warning}]\n    \
        confidence: {expression: output.sure, minimum: 0.5}\n    mandatory: [a, /b/0]\n    \
        verifier:\n      accept: verdict.good\n      step:\n        name: judge\n        \
        prompt: 'Is {{ output }} right?'\n        output: {json: {}}\n";
    let pipeline = good(text);
    let step = &pipeline.steps[0];
    assert_eq!(step.rules[0].severity, RuleSeverity::Warning);
    assert_eq!(step.mandatory, ["/a".into(), "/b/0".into()]);
    let judge = &step.verifier.as_ref().unwrap().step;
    let (input, output, labels) = (json!({}), json!({"a": 1}), BTreeMap::new());
    let scope = Scope::new(&input, &[], "r", &labels).with_output(&output);
    assert_eq!(judge.messages(&scope).unwrap().len(), 1);
}

#[test]
fn when_and_for_each() {
    let pipeline = good(
        "name: a\nsteps:\n  - {name: a, prompt: x}\n  - name: b\n    \
         when: '!skipped.a && size(steps.a) > 1'\n    \
         for_each: {items: steps.a, max_items: 3}\n    prompt: '{{ item }} {{ index }}'\n",
    );
    let (input, labels, run) = (json!({}), BTreeMap::new(), "r");
    let check = |output: Value, skipped: bool| {
        let views = [StepView { name: "a", output: &output, skipped }];
        let scope = Scope::new(&input, &views, run, &labels);
        let step = &pipeline.steps[1];
        let elements = step.elements(&scope).map_err(|f| (f.cause, f.message));
        (step.runs(&scope).map_err(|f| f.message), elements)
    };
    assert_eq!(check(json!([1, 2]), false), (Ok(true), Ok(Some(vec![json!(1), json!(2)]))));
    let (runs, elements) = check(json!(null), true);
    assert_eq!(runs, Ok(false));
    assert_eq!(elements.unwrap_err().0, FailureCause::TemplateError);
    assert_eq!(
        check(json!([1, 2, 3, 4]), false).1.unwrap_err(),
        (
            FailureCause::InvalidRequest,
            "`for_each` gives 4 elements; at most 3 are allowed".to_owned()
        )
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any document is compiled or refused.
    #[test]
    fn any_document_ends(text in "[a-z:{}\\[\\], \n'\"-]{0,80}") {
        let text = format!("name: a\nsteps:\n  - name: a\n    prompt: x\n    {text}\n");
        if let Ok(document) = Document::parse("p", text) {
            let _ = compile(&document, &Known::default());
        }
    }
}
