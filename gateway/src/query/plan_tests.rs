use super::*;
use crate::config::Config;

fn streams() -> Vec<StreamConfig> {
    let text = r#"
        [gateway]
        id = "g"
        data_dir = "d"
        [[stream]]
        name = "climate"
        topic = "sensors/{device}/climate"
        key = "device"
        format = "json"
        time = "ts"
        columns = { temperature = "double", place = "text" }
        [[stream]]
        name = "raw"
        topic = "raw/{line}/#"
        format = "bytes"
        [[stream]]
        name = "line"
        topic = "spBv1.0/#"
        format = "sparkplug-b"
    "#;
    Config::parse("test", text).expect("a configuration").streams
}

fn fault(sql: &str) -> String {
    Plan::parse(sql, &streams()).expect_err(sql)
}

#[test]
fn the_query_of_the_contract_is_read() {
    let sql = "CREATE STREAM climate_1m AS SELECT device, window_start, window_end,
        count(*) AS n, avg(temperature) AS mean, max(temperature) - min(temperature) AS span
        FROM climate AS c
        WHERE c.temperature BETWEEN -40 AND 60.5 AND device NOT IN ('a', 'b')
        GROUP BY device, tumble(INTERVAL '1' MINUTE);";
    let plan = Plan::parse(sql, &streams()).expect("a plan");
    assert_eq!((plan.name(), plan.source()), ("climate_1m", "climate"));
    assert_eq!(plan.parts.size_ms, 60_000);
    assert_eq!(plan.parts.columns, ["temperature", "device"]);
    assert_eq!(plan.parts.aggregates.len(), 4);
    let labels: Vec<&str> = plan.parts.outputs.iter().map(|output| output.label.as_str()).collect();
    assert_eq!(
        labels,
        ["\"device\":", "\"window_start\":", "\"window_end\":", "\"n\":", "\"mean\":", "\"span\":"]
    );
    let other_layout = sql.replace('\n', " ").replace("  ", " ");
    let same = Plan::parse(&other_layout, &streams()).expect("a plan");
    assert_eq!(same.parts.canonical, plan.parts.canonical);
}

#[test]
fn intervals_are_read_in_every_unit() {
    for (interval, size_ms) in [
        ("INTERVAL '250' MILLISECONDS", 250),
        ("INTERVAL '10' SECOND", 10_000),
        ("INTERVAL '2 hours'", 7_200_000),
        ("INTERVAL '1' DAY", 86_400_000),
        ("INTERVAL '1' WEEK", 604_800_000),
    ] {
        let sql = format!(
            "CREATE STREAM q AS SELECT count(*) FROM climate GROUP BY device, tumble({interval})"
        );
        let plan = Plan::parse(&sql, &streams()).expect(interval);
        assert_eq!(plan.parts.size_ms, size_ms, "{interval}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_is_refused_names_the_place_and_the_remedy() {
    let query = |select: &str, rest: &str| format!("CREATE STREAM q AS\nSELECT {select}\n{rest}");
    let by = "GROUP BY device, tumble(INTERVAL '1' MINUTE)";
    let from = format!("FROM climate {by}");
    for (sql, place, remedy) in [
        ("SELEC 1".to_owned(), "line 1, column 1", "SELECT"),
        ("SELECT 'a".to_owned(), "line 1, column 8", "Unterminated"),
        ("CREATE TABLE q AS SELECT 1".to_owned(), "line 1, column 8", "CREATE STREAM name AS"),
        (format!("SELECT count(*) {from}"), "line 1, column 1", "needs a name"),
        (format!("CREATE STREAM \"a/b\" AS SELECT count(*) {from}"), "column 15", "not a name"),
        (format!("CREATE STREAM \"a.late\" AS SELECT count(*) {from}"), "column 15", "taken"),
        (query("count(*)", &format!("FROM weather {by}")), "line 3, column 6", "climate, raw"),
        (query("count(*)", &format!("FROM climate, raw {by}")), "line 2", "one stream"),
        (query("count(*)", &format!("FROM climate JOIN raw ON TRUE {by}")), "line 3", "join"),
        (query("count(*)", &format!("FROM (SELECT 1) AS x {by}")), "line 3", "name of a stream"),
        (query("*", &from), "line 2, column 8", "count(*) AS n"),
        (query("count(*) n, sum(ts) n", &from), "column 20", "AS other_name"),
        (query("1 + 1", &from), "column 8", "AS name"),
        (query("temperature", &from), "column 8", "avg(temperature)"),
        (query("median(temperature)", &from), "column 8", "count, sum, avg, min, max"),
        (query("sum(place)", &from), "column 12", "count(place)"),
        (query("sum(*)", &from), "column 8", "count(*) only"),
        (query("min(ts, ts)", &from), "column 8", "one argument"),
        (query("sum(sum(ts))", &from), "column 12", "once"),
        (query("count(DISTINCT ts)", &from), "column 8", "DISTINCT"),
        (query("sum(ts) OVER ()", &from), "column 8", "OVER"),
        (query("x.device", &from), "column 8", "climate.column"),
        (query("CAST(device AS TEXT) d", &from), "column 13", "comparisons"),
        (query("device || 'x' AS d", &from), "column 8", "operator ||"),
        (query("count(*)", "FROM climate"), "line 2", "GROUP BY device, tumble"),
        (query("count(*)", "FROM climate GROUP BY device"), "line 2", "tumble"),
        (
            query("count(*)", "FROM climate GROUP BY tumble(INTERVAL '1' MINUTE)"),
            "line 2",
            "one column",
        ),
        (
            query("count(*)", &format!("FROM climate {by}, place")),
            "line 3, column 60",
            "one column and one window",
        ),
        (
            query("count(*)", "FROM climate GROUP BY device, tumble(ts, INTERVAL '1' MINUTE)"),
            "line 3, column 31",
            "event time of the stream",
        ),
        (
            query("count(*)", "FROM climate GROUP BY device, hop(INTERVAL '1' MINUTE)"),
            "line 3, column 31",
            "write tumble",
        ),
        (
            query("count(*)", "FROM climate GROUP BY device, tumble(INTERVAL '1' MONTH)"),
            "line 3",
            "INTERVAL '1' MINUTE",
        ),
        (
            query("count(*)", "FROM climate GROUP BY device, tumble(INTERVAL '0' SECOND)"),
            "line 3",
            "INTERVAL '1' MINUTE",
        ),
        (query("count(*)", &format!("{from} HAVING count(*) > 1")), "line 3", "HAVING"),
        (query("count(*)", &format!("{from} ORDER BY device")), "line 3", "no such order"),
        (query("count(*)", &format!("{from} LIMIT 5")), "line 3", "LIMIT"),
        (query("DISTINCT count(*)", &from), "line 2, column 8", "DISTINCT"),
        (query("count(*)", &format!("{from} UNION SELECT 1")), "line 3", "one plain SELECT"),
        (query("count(*)", &format!("{from}; SELECT 2")), "line 3", "not expected here"),
        (
            query("count(*)", &format!("FROM climate WHERE sum(ts) > 1 {by}")),
            "line 3, column 20",
            "write it in SELECT",
        ),
        (
            query("count(*)", &format!("FROM climate WHERE window_end > 1 {by}")),
            "line 3, column 20",
            "time here",
        ),
        (
            query("count(*)", &format!("FROM climate WHERE place = NULL {by}")),
            "line 3, column 20",
            "IS NULL",
        ),
        (
            query("count(*)", &format!("FROM climate WHERE place LIKE 'x' {by}")),
            "line 3, column 20",
            "BETWEEN",
        ),
        (
            query("count(*)", "FROM raw GROUP BY device, tumble(INTERVAL '1' MINUTE)"),
            "line 3, column 19",
            "line, topic, payload, time, key",
        ),
    ] {
        let fault = fault(&sql);
        assert!(fault.contains(place) && fault.contains(remedy), "{sql}\n  {fault}");
    }
}

#[test]
fn a_statement_that_would_cost_the_stack_is_refused() {
    let by = "GROUP BY device, tumble(INTERVAL '1' MINUTE)";
    for condition in [
        format!("{}1{} > 0", "(".repeat(400), ")".repeat(400)),
        format!("0 < {}1", "1+".repeat(450)),
        format!("0 < {}1", "1+".repeat(3500)),
    ] {
        let sql = format!("CREATE STREAM q AS SELECT count(*) FROM climate WHERE {condition} {by}");
        let fault = fault(&sql);
        assert!(fault.contains("too deeply") || fault.contains("too long"), "{fault}");
    }
    assert!(fault(&" ".repeat(20_000)).contains("20000 bytes"));
}

#[test]
fn the_columns_of_metrics_are_known_and_only_numbers_have_a_mean() {
    let sql = |what: &str, by: &str| {
        format!(
            "CREATE STREAM q AS SELECT {what} FROM line GROUP BY {by}, tumble(INTERVAL '1' MINUTE)"
        )
    };
    for by in ["path", "metric", "edge_node", "device", "key"] {
        Plan::parse(&sql("avg(value) AS mean, max(seq) AS last", by), &streams()).expect(by);
    }
    let unknown = fault(&sql("count(*) AS n", "tag"));
    assert!(unknown.contains("no column tag; it has: message, group"), "{unknown}");
    let text = fault(&sql("avg(metric) AS mean", "path"));
    assert!(text.contains("metric is no number"), "{text}");
}
