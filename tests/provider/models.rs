//! The rules of the models, each broken once, and the price list.

use proptest::prelude::*;
use reelhook::provider::{
    models::{Checked, FieldError, Pricing, catalogue, check, usd},
    reply::Mapping,
};
use serde_json::{Value, json};

fn checked(input: Value) -> Result<Checked, Vec<FieldError>> {
    check(&input, "kling-3", &Pricing::default())
}

/// A kling-3 input that is right but for one field.
fn kling(field: &str, value: Value) -> Value {
    let mut input = json!({"prompt": "a fox", "model": "kling-3"});
    input[field] = value;
    input
}

fn wrongs(input: Value) -> Vec<(String, &'static str)> {
    checked(input).err().unwrap_or_default().into_iter().map(|wrong| (wrong.pointer, wrong.code)).collect()
}

#[test]
fn each_broken_rule_is_named_with_its_field() {
    for (field, value, code) in [
        ("prompt", json!("x".repeat(2501)), "too_long"),
        ("prompt", json!(""), "required"),
        ("prompt", json!("  "), "required"),
        ("prompt", json!(null), "required"),
        ("prompt", json!(7), "wrong_type"),
        ("mode", json!("ultra"), "not_one_of"),
        ("mode", json!(1), "wrong_type"),
        ("duration", json!(2.9), "out_of_range"),
        ("duration", json!(15.1), "out_of_range"),
        ("duration", json!(-5), "out_of_range"),
        ("duration", json!("5"), "wrong_type"),
        ("aspect_ratio", json!("4:3"), "not_one_of"),
        ("sound", json!("yes"), "wrong_type"),
        ("sound", json!(1), "wrong_type"),
        ("image", json!("cat.png"), "not_a_url"),
        ("image", json!("/cat.png"), "not_a_url"),
        ("image", json!("data:image/png;base64,AA"), "not_a_url"),
        ("image", json!(["https://x.example/a.png"]), "wrong_type"),
        ("multi_shots", json!("true"), "wrong_type"),
        ("multi_prompt", json!({}), "wrong_type"),
        ("kling_elements", json!({}), "wrong_type"),
        ("callback_url", json!("https://x.example/cb"), "not_allowed"),
        ("model", json!(3), "wrong_type"),
        ("model", json!("sora"), "unknown_model"),
    ] {
        let input = kling(field, value);
        assert_eq!(wrongs(input.clone()), [(format!("/input/{field}"), code)], "{input}");
    }
}

#[test]
fn the_edges_of_each_rule_are_allowed() {
    for (field, value) in [
        ("prompt", json!("é".repeat(2500))),
        ("mode", json!("pro")),
        ("duration", json!(3)),
        ("duration", json!(15)),
        ("duration", json!(7.5)),
        ("aspect_ratio", json!("1:1")),
        ("aspect_ratio", json!("9:16")),
        ("sound", json!(false)),
        ("sound", json!(null)),
        ("image", json!("http://x.example/a.png")),
        ("kling_elements", json!([{"anything": 1}])),
        ("callback_url", json!(null)),
        ("seed", json!({"un": "known"})),
    ] {
        let input = kling(field, value);
        assert_eq!(wrongs(input.clone()), [], "{input}");
    }
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let input = json!({"mode": 1, "duration": 99, "aspect_ratio": "x", "sound": 0, "image": "x", "callback_url": "x",
        "multi_shots": 0, "multi_prompt": 0, "kling_elements": 0});
    let mut fields: Vec<String> = wrongs(input).into_iter().map(|(pointer, _)| pointer).collect();
    fields.sort();
    let wanted =
        "aspect_ratio callback_url duration image kling_elements mode multi_prompt multi_shots prompt sound";
    assert_eq!(fields, wanted.split(' ').map(|field| format!("/input/{field}")).collect::<Vec<_>>());
}

#[test]
fn several_shots_need_their_prompts() {
    let shots = |shots: Value| json!({"multi_shots": true, "multi_prompt": shots});
    assert_eq!(wrongs(shots(json!([{"prompt": "a", "duration": 3}, {"prompt": "b"}]))), []);
    assert_eq!(wrongs(json!({"multi_shots": true})), [("/input/multi_prompt".into(), "required")]);
    assert_eq!(wrongs(shots(json!([]))), [("/input/multi_prompt".into(), "required")]);
    assert_eq!(
        wrongs(shots(json!([{"duration": 0}, "x", {"prompt": "b", "duration": "2"}]))),
        [
            ("/input/multi_prompt/0/prompt".into(), "required"),
            ("/input/multi_prompt/0/duration".into(), "out_of_range"),
            ("/input/multi_prompt/1".into(), "wrong_type"),
            ("/input/multi_prompt/2/duration".into(), "out_of_range"),
        ]
    );
}

#[test]
fn an_unknown_model_is_told_which_ones_there_are() {
    let detail = |name: &str| checked(json!({"model": name, "prompt": "x"})).unwrap_err().remove(0).detail;
    for model in ["kling-3", "grok-video", "ltx-2", "wan-2-6"] {
        assert!(detail("zzz").contains(model));
    }
    for (typed, meant) in
        [("kling3", "kling-3"), ("Kling-3", "kling-3"), ("wan-2.6", "wan-2-6"), ("ltx2", "ltx-2")]
    {
        let detail = detail(typed);
        assert!(detail.contains(&format!("did you mean `{meant}`?")), "{detail}");
    }
    assert!(!detail("zzz").contains("did you mean"), "{}", detail("zzz"));
}

#[test]
fn an_input_that_is_no_object_is_refused() {
    for input in [json!("a fox"), json!([]), json!(null)] {
        assert_eq!(wrongs(input), [("/input".into(), "wrong_type")]);
    }
}

#[test]
fn a_typing_error_in_a_field_is_refused_before_it_costs_money() {
    for (typed, meant) in [
        ("duraton", "duration"),
        ("Duration", "duration"),
        ("apect_ratio", "aspect_ratio"),
        ("aspectRatio", "aspect_ratio"),
        ("sond", "sound"),
        ("modell", "model"),
        ("multi-shots", "multi_shots"),
    ] {
        let wrong = checked(kling(typed, json!("x"))).unwrap_err().remove(0);
        assert_eq!((wrong.pointer, wrong.code), (format!("/input/{typed}"), "unknown_field"));
        assert!(wrong.detail.contains(&format!("did you mean `{meant}`?")), "{}", wrong.detail);
        let elsewhere = json!({"model": "ltx-2", "prompt": "x", typed: "x"});
        assert_eq!(checked(elsewhere).unwrap().notices.len(), 0, "nothing is documented there");
    }
    assert_eq!(wrongs(kling("dur/tion", json!(5)))[0].0, "/input/dur~1tion");
    assert_eq!(wrongs(kling("duraton", json!(null))), [], "null is not given");
}

#[test]
fn a_field_like_none_that_is_documented_passes_with_a_notice() {
    let checked = checked(kling("seed", json!(7))).unwrap();
    assert_eq!(checked.notices, ["field `seed` is not documented for kling-3; it is passed through"]);
    assert_eq!(checked.body["seed"], 7);
}

#[test]
fn many_undocumented_fields_do_not_fill_the_notices() {
    let mut input = kling("x".repeat(10_000).as_str(), json!(1));
    for number in 0..20 {
        input[format!("zz{number}")] = json!(1);
    }
    let notices = checked(input).unwrap().notices;
    assert_eq!(notices.len(), 6, "{notices:?}");
    assert!(notices[5].contains("16 more"), "{notices:?}");
    assert!(notices.iter().all(|notice| notice.len() < 200), "{notices:?}");
}

#[test]
fn every_parameter_of_the_catalogue_is_known() {
    let models = catalogue(&Pricing::default(), &Mapping::default());
    let documented = models.iter().find(|model| model.name == "kling-3").unwrap();
    for parameter in &documented.parameters {
        let code = |wrong: &FieldError| wrong.code == "unknown_field";
        match checked(kling(parameter.name, json!("x"))) {
            Ok(checked) => assert!(checked.notices.is_empty(), "{}", parameter.name),
            Err(wrongs) => assert!(!wrongs.iter().any(code), "{wrongs:?}"),
        }
    }
}

#[test]
fn the_default_model_is_filled_in_and_the_rest_left_alone() {
    let input = json!({"prompt": "a fox", "unheard_of": [1, {"x": null}], "sound": null});
    let checked = check(&input, "ltx-2", &Pricing::default()).unwrap();
    let mut wanted = input.clone();
    wanted["model"] = json!("ltx-2");
    assert_eq!(Value::Object(checked.body), wanted);
    assert_eq!((checked.model.as_str(), checked.prompt.as_deref()), ("ltx-2", Some("a fox")));
    assert!(check(&input, "nonesuch", &Pricing::default()).is_err());
}

#[test]
fn other_models_have_only_the_rules_that_are_documented() {
    for model in ["grok-video", "ltx-2", "wan-2-6"] {
        assert_eq!(
            wrongs(json!({"model": model, "prompt": "x", "mode": 1, "duration": "long", "image": 1})),
            []
        );
        assert_eq!(wrongs(json!({"model": model, "image": "https://x.example/a.png"})), []);
        assert_eq!(wrongs(json!({"model": model})), [("/input/prompt".into(), "required")]);
        assert_eq!(wrongs(json!({"model": model, "prompt": 1})), [("/input/prompt".into(), "wrong_type")]);
        assert_eq!(wrongs(json!({"model": model, "prompt": "x", "callback_url": ""})).len(), 1);
    }
}

#[test]
fn the_price_list_of_kling_is_rate_times_duration() {
    for (mode, sound, duration, credits) in [
        ("std", true, 5.0_f64, 300),
        ("std", false, 3.0, 120),
        ("pro", true, 15.0, 1200),
        ("pro", false, 10.0, 540),
        ("std", false, 5.0, 200),
        ("std", true, 8.2, 492),
        ("std", true, 8.05, 483),
        ("pro", false, 3.01, 163),
    ] {
        let input = json!({"prompt": "x", "mode": mode, "sound": sound, "duration": duration});
        let checked = checked(input.clone()).unwrap();
        assert_eq!((checked.estimate.credits, checked.estimate.exact), (credits, true), "{input}");
        assert_eq!((checked.mode.as_deref(), checked.duration_s), (Some(mode), Some(duration)));
    }
    let plain = checked(json!({"prompt": "x"})).unwrap();
    assert_eq!(plain.estimate.basis, "60 credits/s × 5 s, std with sound");
    assert_eq!((plain.estimate.credits, plain.estimate.usd(), plain.duration_s), (300, 3.0, Some(5.0)));
}

#[test]
fn several_shots_are_priced_by_their_sum_and_never_exactly() {
    let price = |input: Value| checked(input).unwrap().estimate;
    let shots = json!([{"prompt": "a", "duration": 3}, {"prompt": "b", "duration": 4}]);
    let summed = price(json!({"multi_shots": true, "multi_prompt": shots, "sound": false}));
    assert_eq!((summed.credits, summed.exact), (280, false));
    let input = json!({"multi_shots": true, "multi_prompt": shots});
    assert_eq!(checked(input).unwrap().duration_s, Some(7.0), "the length is that of all shots");
    let shots = json!([{"prompt": "a", "duration": 3}, {"prompt": "b"}]);
    let unsummed = price(json!({"multi_shots": true, "multi_prompt": shots, "duration": 10}));
    assert_eq!((unsummed.credits, unsummed.exact), (600, false));
    let endless = price(json!({"multi_shots": true, "multi_prompt": [{"prompt": "a", "duration": 1e300}]}));
    assert!(endless.credits > 1_000_000_000);
}

#[test]
fn the_other_models_cost_their_base_price_inexactly() {
    for (model, credits) in [("grok-video", 24), ("ltx-2", 24), ("wan-2-6", 80)] {
        let estimate = checked(json!({"model": model, "prompt": "x"})).unwrap().estimate;
        assert_eq!((estimate.credits, estimate.exact), (credits, false), "{model}");
        assert!(estimate.basis.contains(model));
    }
}

#[test]
fn prices_follow_the_configuration() {
    let pricing = Pricing { std_silent: 1, std_sound: 2, pro_silent: 3, pro_sound: 4 };
    let price = |input: Value| check(&input, "kling-3", &pricing).unwrap().estimate.credits;
    assert_eq!(price(json!({"prompt": "x"})), 10);
    assert_eq!(price(json!({"prompt": "x", "mode": "pro", "duration": 10})), 40);
    assert_eq!(usd(1234), 12.34);
}

#[test]
fn the_catalogue_says_what_each_model_takes_and_costs() {
    let models = catalogue(&Pricing::default(), &Mapping::default());
    let models = serde_json::to_value(models).unwrap();
    let row = |model: &Value| {
        (model["name"].clone(), model["price"]["base_credits"].clone(), model["callbacks"].clone())
    };
    let rows: Vec<_> = models.as_array().unwrap().iter().map(row).collect();
    let wanted =
        [("kling-3", 300, true), ("grok-video", 24, true), ("ltx-2", 24, false), ("wan-2-6", 80, true)];
    assert_eq!(
        rows,
        wanted.map(|(name, credits, callbacks)| (json!(name), json!(credits), json!(callbacks)))
    );
    assert_eq!(models[0]["price"]["per_second"]["pro_silent"], 54);
    assert_eq!(models[1]["price"].get("per_second"), None);
    assert_eq!(models[2]["inputs"], json!(["text", "image", "video", "audio"]));
    let parameters = models[0]["parameters"].as_array().unwrap();
    let duration = parameters.iter().find(|parameter| parameter["name"] == "duration").unwrap();
    assert_eq!(
        *duration,
        json!({"name": "duration", "type": "number", "default": 5, "rule": "3 to 15 seconds"})
    );
}

proptest! {
    #[test]
    fn a_kling_price_is_within_the_documented_range(pro in any::<bool>(), sound in any::<bool>(), duration in 3.0..=15.0) {
        let input = json!({"prompt": "x", "mode": if pro { "pro" } else { "std" }, "sound": sound, "duration": duration});
        let credits = checked(input).unwrap().estimate.credits;
        prop_assert!((120..=1200).contains(&credits));
    }
}
