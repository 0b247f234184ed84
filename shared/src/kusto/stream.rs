//! An answer while it arrives: each row of its primary result is handed over when it is there, and all else kept for the end, where it says whether it is complete. Pure.

use std::mem;

use serde_json::Value;

use super::{
    decode::{self, Primary},
    error::Failure,
    table::{ColumnInfo, RowSink},
};

/// How long what comes before the rows of the primary result may be: several times what Kusto says there. Looking for them has an end with it.
const MAX_BEFORE_ROWS: usize = 64 * 1024;

/// What the answer is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `/v2/rest/query`: a list of frames.
    V2,
    /// `/v1/rest/mgmt`: an object with tables.
    V1 {
        /// Some servers answer a streaming ingestion with nothing.
        may_be_empty: bool,
    },
}

impl Form {
    /// How many lists and objects are open where the list of a table's rows begins.
    const fn depth_of_rows(self) -> usize {
        match self {
            Self::V2 => 2,
            Self::V1 { .. } => 3,
        }
    }

    /// The columns of the primary result, if its rows are next.
    fn columns_of_next(self, so_far: &[u8]) -> Option<Vec<ColumnInfo>> {
        // With something in the place of its rows that no table has: it may be another list that is next.
        match self {
            Self::V2 => decode::columns_of_v2(&[so_far, b"[null]}]"].concat()),
            Self::V1 { .. } => decode::columns_of_v1(&[so_far, b"[null]}]}"].concat()),
        }
    }

    fn judge(self, answer: &[u8]) -> Result<Primary, Failure> {
        match self {
            Self::V2 => decode::v2(answer),
            Self::V1 { .. } => decode::v1(answer),
        }
    }
}

/// How far the rows of the primary result are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    Before,
    /// Each has so many values.
    Arriving {
        width: usize,
    },
    After,
}

/// Takes an answer apart. Of JSON it knows where strings and lists end, and no more: all pieces are read by `serde_json`, and an answer is broken where one of them is.
pub(super) struct AnswerReader<'a> {
    form: Form,
    sink: &'a mut dyn RowSink,
    /// The answer, with an empty list in the place of each row that was handed over.
    rest: Vec<u8>,
    /// What has arrived of a row.
    row: Vec<u8>,
    in_row: bool,
    in_string: bool,
    /// The last byte was a backslash in a string.
    is_escaped: bool,
    /// How many lists and objects are open.
    depth: usize,
    rows: Rows,
    /// A row had another number of values than there are columns.
    has_wrong_row: bool,
}

impl<'a> AnswerReader<'a> {
    pub(super) fn new(form: Form, sink: &'a mut dyn RowSink) -> Self {
        Self {
            form,
            sink,
            rest: Vec::new(),
            row: Vec::new(),
            in_row: false,
            in_string: false,
            is_escaped: false,
            depth: 0,
            rows: Rows::Before,
            has_wrong_row: false,
        }
    }

    /// More of the answer. An error is final.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while let Some(at) = bytes.iter().position(|byte| self.is_structural(*byte)) {
            let (before, from) = bytes.split_at(at);
            self.keep(before);
            self.take_structural(from[0])?;
            bytes = &from[1..];
        }
        self.keep(bytes);
        Ok(())
    }

    /// Whether this byte begins or ends something, or is the one behind a backslash.
    const fn is_structural(&self, byte: u8) -> bool {
        match byte {
            _ if self.is_escaped => true,
            b'"' => true,
            b'\\' => self.in_string,
            b'[' | b']' | b'{' | b'}' => !self.in_string,
            _ => false,
        }
    }

    fn take_structural(&mut self, byte: u8) -> Result<(), Failure> {
        if mem::take(&mut self.is_escaped) {
            self.keep(&[byte]);
            return Ok(());
        }
        let rows = self.form.depth_of_rows();
        match byte {
            b'"' => self.in_string = !self.in_string,
            b'\\' => self.is_escaped = true,
            b'[' | b'{' => {
                match self.rows {
                    Rows::Before if byte == b'[' && self.depth == rows => self.start_rows(),
                    Rows::Arriving { .. } if byte == b'[' && self.depth == rows + 1 => self.in_row = true,
                    _ => {}
                }
                self.depth += 1;
            }
            _ => self.depth = self.depth.saturating_sub(1),
        }
        self.keep(&[byte]);
        match self.rows {
            Rows::Arriving { width } if self.in_row && self.depth == rows + 1 => self.hand_over(width)?,
            Rows::Arriving { .. } if self.depth == rows => self.rows = Rows::After,
            _ => {}
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let piece = if self.in_row { &mut self.row } else { &mut self.rest };
        piece.extend_from_slice(bytes);
    }

    /// A list begins that may be the rows of the primary result. Where a server tells of a table in another order, they are kept to the end.
    fn start_rows(&mut self) {
        if self.rest.len() <= MAX_BEFORE_ROWS
            && let Some(columns) = self.form.columns_of_next(&self.rest)
        {
            self.rows = Rows::Arriving { width: columns.len() };
            self.sink.start(columns);
        }
    }

    fn hand_over(&mut self, width: usize) -> Result<(), Failure> {
        let values = decode::row(&self.row)?;
        self.in_row = false;
        self.row.clear();
        self.keep(b"[]");
        if values.len() == width {
            self.sink.take(values);
        } else {
            self.has_wrong_row = true;
        }
        Ok(())
    }

    /// The answer has ended: whether it is complete.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let may_be_empty = self.form == Form::V1 { may_be_empty: true };
        if may_be_empty && self.rest.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let Primary { columns, rows } = self.form.judge(&self.rest)?;
        let width = columns.len();
        let wrong = || Failure::Incomplete { why: format!("a row has not {width} values") };
        if self.has_wrong_row {
            return Err(wrong());
        }
        if self.rows == Rows::Before {
            self.sink.start(columns);
            if rows.empty > 0 && width > 0 {
                return Err(wrong());
            }
            for row in rows.others {
                match row {
                    Value::Array(values) if values.len() == width => self.sink.take(values),
                    _ => return Err(wrong()),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};
    use serde_json::json;

    use super::*;
    use crate::kusto::table::{Fold, Row};

    /// What was told of an answer, in order.
    #[derive(Debug, Default, PartialEq)]
    struct Told(Vec<String>);

    impl RowSink for Told {
        fn start(&mut self, columns: Vec<ColumnInfo>) {
            let names: Vec<_> = columns.into_iter().map(|column| column.name).collect();
            self.0 = vec![names.join(",")];
        }

        fn take(&mut self, values: Vec<Value>) {
            self.0.push(Value::from(values).to_string());
        }
    }

    const HEADER: &str = r#"{"FrameType":"DataSetHeader"}"#;
    const END: &str = r#"{"FrameType":"DataSetCompletion","HasErrors":false,"Cancelled":false}"#;
    const COLUMNS: &str = r#""Columns":[{"ColumnName":"A","ColumnType":"string"},{"ColumnName":"B"}]"#;

    /// Columns and rows, in this order or in the other one.
    fn table(rows: &str, is_late: bool) -> String {
        let mut members = [COLUMNS.to_owned(), format!(r#""Rows":[{rows}]"#)];
        if is_late {
            members.reverse();
        }
        members.join(",")
    }

    fn frame(kind: &str, table: &str) -> String {
        format!(r#"{{"FrameType":"DataTable","TableKind":"{kind}",{table}}}"#)
    }

    fn query(rows: &str) -> String {
        query_of(&table(rows, false))
    }

    fn query_of(table: &str) -> String {
        let (before, primary) =
            (frame("QueryProperties", &self::table(r#"["x","y"]"#, false)), frame("PrimaryResult", table));
        format!("[{HEADER},{before},{primary},{END}]")
    }

    fn command(rows: &str) -> String {
        command_of(&table(rows, false), "")
    }

    /// `other`: rows of what is no table.
    fn command_of(table: &str, other: &str) -> String {
        let second = self::table(r#"["x","y"]"#, false);
        format!(
            r#"{{"Other":[{{"Rows":[{other}]}}],"Tables":[{{{table}}},{{{second}}}],"More":[{{"Rows":[{other}]}}]}}"#
        )
    }

    /// What is told of an answer that arrives in pieces of so many bytes.
    fn told(form: Form, answer: &[u8], bytes: usize) -> Result<Vec<String>, Failure> {
        let mut told = Told::default();
        let mut reader = AnswerReader::new(form, &mut told);
        answer.chunks(bytes).try_for_each(|piece| reader.push(piece))?;
        reader.finish()?;
        Ok(told.0)
    }

    /// What there is to tell of it.
    fn read_whole(form: Form, answer: &[u8]) -> Result<Vec<String>, Failure> {
        let mut told = Told::default();
        let mut reader = AnswerReader::new(form, &mut told);
        reader.rest = answer.to_vec();
        reader.finish()?;
        Ok(told.0)
    }

    #[test]
    fn a_row_is_handed_over_when_it_is_there_and_not_kept() {
        let rows = [r#"["a","]"]"#, r#"["\\\"[",{"b":[1,"}"]}]"#];
        for (form, text) in
            [(Form::V2, query(&rows.join(","))), (Form::V1 { may_be_empty: false }, command(&rows.join(",")))]
        {
            let (first, second) = (text.find(rows[0]).unwrap(), text.find(rows[1]).unwrap());
            let mut sink = Told::default();
            let mut reader = AnswerReader::new(form, &mut sink);
            reader.push(&text.as_bytes()[..second]).unwrap();
            assert_eq!(String::from_utf8(reader.rest).unwrap(), format!("{}[],", &text[..first]));
            assert_eq!(sink.0, ["A,B", rows[0]]);
            for bytes in 1..=text.len() {
                assert_eq!(told(form, text.as_bytes(), bytes).unwrap(), ["A,B", rows[0], rows[1]], "{bytes}");
            }
        }
    }

    #[test]
    fn rows_are_kept_to_the_end_where_it_is_not_known_yet_what_they_are() {
        let late = frame("PrimaryResult", &table(r#"["a","b"]"#, true));
        let first_is_late = [HEADER, &late, &frame("PrimaryResult", &table(r#"["c","d"]"#, false)), END].join(",");
        let odd_key = format!(
            r#"{{"FrameType":"DataTable","TableKind":"PrimaryResult",{COLUMNS},"\"Rows":[["x","y"]],"Rows":[["a","b"]]}}"#
        );
        for answer in [[HEADER, &late, END].join(","), first_is_late, [HEADER, &odd_key, END].join(",")] {
            assert_eq!(
                told(Form::V2, format!("[{answer}]").as_bytes(), 5).unwrap(),
                ["A,B", r#"["a","b"]"#],
                "{answer}"
            );
        }
    }

    #[test]
    fn rows_of_what_is_no_table_are_no_rows() {
        let columns_alone = format!(r#"{{"Tables":[{{{COLUMNS}}}],"Other":[{{"Rows":[["x","y"]]}}]}}"#);
        let late = format!(r#"{{"Tables":[{{{}}}],"Other":[{{"Rows":[["x"]]}}]}}"#, table(r#"["a","b"]"#, true));
        for (answer, rows) in [(columns_alone, vec!["A,B"]), (late, vec!["A,B", r#"["a","b"]"#])] {
            assert_eq!(told(Form::V1 { may_be_empty: false }, answer.as_bytes(), 4).unwrap(), rows, "{answer}");
        }
    }

    #[test]
    fn rows_are_not_looked_for_behind_what_no_server_says_before_them() {
        let long = format!(r#"{{"FrameType":"{}"}}"#, "x".repeat(MAX_BEFORE_ROWS));
        let primary = frame("PrimaryResult", &table(r#"["a","b"]"#, false));
        let answer = format!("[{HEADER},{long},{primary},{END}]");
        let mut sink = Told::default();
        let mut reader = AnswerReader::new(Form::V2, &mut sink);
        reader.push(answer.as_bytes()).unwrap();
        assert_eq!((reader.rows, reader.rest.len()), (Rows::Before, answer.len()));
        reader.finish().unwrap();
        assert_eq!(sink.0, ["A,B", r#"["a","b"]"#]);
    }

    #[test]
    fn what_is_made_of_rows_begins_anew_with_each_answer() {
        let mut fold = Fold::new(|names: &mut Vec<String>, row: Row<'_>| {
            names.push(row.string("A")?.to_owned());
            Ok(())
        });
        for (answer, is_whole) in
            [(query(r#"["a","b"]"#).trim_end_matches(']'), false), (&*query(r#"["c","d"],["e","f"]"#), true)]
        {
            let mut reader = AnswerReader::new(Form::V2, &mut fold);
            reader.push(answer.as_bytes()).unwrap();
            assert_eq!(reader.finish().is_ok(), is_whole);
        }
        assert_eq!(fold.finish().unwrap(), ["c", "e"]);
        let mut fold = Fold::new(|count: &mut usize, row: Row<'_>| row.string("A").map(|_| *count += 1));
        let mut reader = AnswerReader::new(Form::V2, &mut fold);
        reader.push(query(r#"["a",1],[2,"b"],["c",3]"#).as_bytes()).unwrap();
        reader.finish().unwrap();
        let why = "row 1 of the answer has a number in column 'A' where a text is expected";
        assert_eq!(fold.finish().unwrap_err().to_string(), why);
    }

    /// JSON of a few levels, with signs in its texts.
    fn json() -> impl Strategy<Value = Value> {
        let text = || {
            prop_oneof!["[\\[\\]{}\",:\\\\a\u{1f600}\u{7}]{0,6}", Just("Rows".to_owned()), Just("Columns".to_owned())]
        };
        let leaf = prop_oneof![
            text().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            Just(json!(null)),
            Just(json!(1.5))
        ];
        leaf.prop_recursive(3, 16, 4, move |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                vec((text(), inner), 0..3).prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        /// Whatever arrives, in whichever pieces: it is told what stands in the whole, or nothing counts.
        #[test]
        fn in_pieces_as_in_whole(
            rows in vec(vec(json(), 2), 0..4),
            odd in prop::option::of(json()),
            harm in prop::option::of((any::<Index>(), 0..4_usize, prop::sample::select(&b"[]{}\",:\\ 0"[..]))),
            is_query in any::<bool>(),
            is_late in any::<bool>(),
            bytes in 1..80_usize,
        ) {
            let rows: Vec<_> = rows.into_iter().map(Value::from).chain(odd).map(|row| row.to_string()).collect();
            let (rows, form) = (rows.join(","), if is_query { Form::V2 } else { Form::V1 { may_be_empty: false } });
            let table = table(&rows, is_late);
            let text = if is_query { query_of(&table) } else { command_of(&table, &rows) };
            let mut text = text.into_bytes();
            if let Some((at, count, byte)) = harm {
                let at = at.index(text.len());
                text.splice(at..(at + count).min(text.len()), [byte]);
            }
            let (pieces, whole) = (told(form, &text, bytes), read_whole(form, &text));
            let kind = |failure| mem::discriminant(&failure);
            prop_assert_eq!(pieces.map_err(kind), whole.map_err(kind), "{}", String::from_utf8_lossy(&text));
        }
    }
}
