//! A table of typed columns, filled row by row.

use np_record::csv_field;
use serde_json::{Map, Value, json};

/// A value of a row. One that is nothing is left out of the row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// A word or a sentence.
    Text(String),
    /// A number.
    Number(f64),
    /// How many, or which: a seed, an epoch.
    Count(u64),
}

/// What a column holds; `None` where a row has nothing there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    /// Words.
    Text(Vec<Option<String>>),
    /// Numbers in double precision.
    Number(Vec<Option<f64>>),
    /// Whole numbers from 0.
    Count(Vec<Option<u64>>),
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Column {
    /// Its name, `final_test_accuracy`.
    pub(crate) name: String,
    /// A value a row.
    pub(crate) values: Values,
}

/// A table: columns come up as rows name them, and all are as long as there are rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Frame {
    /// The columns, in the order in which they came up.
    pub(crate) columns: Vec<Column>,
    /// How many rows.
    pub(crate) rows: usize,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl Cell {
    /// A value of a configuration: a number as one, all else as its JSON, a string without quotes.
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text.clone()),
            Value::Number(number) => number.as_f64().map_or_else(|| number.to_string().into(), Self::Number),
            other => Self::Text(other.to_string()),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Count(count) => count.to_string(),
        }
    }
}

impl Values {
    fn empty(like: &Cell, rows: usize) -> Self {
        match like {
            Cell::Text(_) => Self::Text(vec![None; rows]),
            Cell::Number(_) => Self::Number(vec![None; rows]),
            Cell::Count(_) => Self::Count(vec![None; rows]),
        }
    }

    fn skip(&mut self) {
        match self {
            Self::Text(values) => values.push(None),
            Self::Number(values) => values.push(None),
            Self::Count(values) => values.push(None),
        }
    }

    /// A column that holds different kinds of values, such as a swept schedule by name and by its settings, is one of words.
    fn push(&mut self, cell: Cell) {
        match (&mut *self, cell) {
            (Self::Text(values), cell) => values.push(Some(cell.text())),
            (Self::Number(values), Cell::Number(number)) => values.push(Some(number)),
            (Self::Number(values), Cell::Count(count)) => values.push(Some(count as f64)),
            (Self::Count(values), Cell::Count(count)) => values.push(Some(count)),
            (_, cell) => {
                *self = Self::Text((0..self.len()).map(|row| Some(self.get(row)?.text())).collect());
                self.push(cell);
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Number(values) => values.len(),
            Self::Count(values) => values.len(),
        }
    }

    fn get(&self, row: usize) -> Option<Cell> {
        match self {
            Self::Text(values) => values.get(row)?.clone().map(Cell::Text),
            Self::Number(values) => values.get(row)?.map(Cell::Number),
            Self::Count(values) => values.get(row)?.map(Cell::Count),
        }
    }
}

impl Frame {
    /// Adds a row of these cells; of two with one name the last counts.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = (String, Cell)>) {
        self.rows += 1;
        for (name, cell) in cells {
            let place = self.columns.iter().position(|column| column.name == name).unwrap_or_else(|| {
                let values = Values::empty(&cell, self.rows - 1);
                self.columns.push(Column { name, values });
                self.columns.len() - 1
            });
            let values = &mut self.columns[place].values;
            if values.len() < self.rows {
                values.push(cell);
            }
        }
        self.columns
            .iter_mut()
            .filter(|column| column.values.len() < self.rows)
            .for_each(|column| column.values.skip());
    }

    /// With a header; nothing is an empty field, and a number that is not finite `NaN`, `inf` or `-inf`.
    pub(crate) fn csv(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| csv_field(&column.name)).collect();
        if names.is_empty() {
            return String::new();
        }
        let mut out = names.join(",") + "\n";
        for row in 0..self.rows {
            let fields = self.columns.iter().map(|column| match column.values.get(row) {
                None => String::new(),
                Some(Cell::Text(text)) => csv_field(&text),
                Some(cell) => cell.text(),
            });
            out += &(fields.collect::<Vec<_>>().join(",") + "\n");
        }
        out
    }

    /// An object a line; nothing, and numbers that are not finite, which JSON has not, are null.
    pub(crate) fn jsonl(&self) -> String {
        let mut out = String::new();
        for row in 0..self.rows {
            let fields = self.columns.iter().map(|column| {
                let value = match column.values.get(row) {
                    None => Value::Null,
                    Some(Cell::Text(text)) => text.into(),
                    Some(Cell::Number(number)) => json!(number),
                    Some(Cell::Count(count)) => count.into(),
                };
                (column.name.clone(), value)
            });
            out += &(Value::Object(fields.collect::<Map<_, _>>()).to_string() + "\n");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_long_as_there_are_rows_and_of_one_kind() {
        let mut frame = Frame::default();
        let cell = |name: &str, cell: Cell| (name.to_owned(), cell);
        frame.row([cell("seed", 3_u64.into()), cell("schedule", Cell::of(&json!(0.5)))]);
        frame.row([cell("loss", f64::INFINITY.into()), cell("schedule", Cell::of(&json!({"cosine": {}})))]);
        frame.row([cell("seed", u64::MAX.into()), cell("loss", 0.1.into()), cell("schedule", "a,b".into())]);
        assert_eq!(
            frame.csv(),
            "seed,schedule,loss\n3,0.5,\n,\"{\"\"cosine\"\":{}}\",inf\n18446744073709551615,\"a,b\",0.1\n"
        );
        let lines: Vec<Value> = frame.jsonl().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], json!({"seed": 3, "schedule": "0.5", "loss": null}));
        assert_eq!(lines[2], json!({"seed": u64::MAX, "schedule": "a,b", "loss": 0.1}));
    }
}
