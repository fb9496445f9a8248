use super::*;

#[test]
fn every_shape_is_a_valid_workflow_without_warnings() {
    for shape in Shape::value_variants() {
        let job = shape.job("http://127.0.0.1:1");
        let loaded = Definition::parse(&job.definition, &LoadOptions::default())
            .unwrap_or_else(|diagnostics| panic!("{}: {diagnostics}", job.shown));
        assert_eq!(loaded.warnings, [], "{}", job.shown);
        assert!(loaded.workflow.find_trigger(&job.trigger).is_some(), "{}", job.shown);
        Value::parse_json(&job.body).expect("the body is JSON");
    }
}
