//! The CSV file of a figure: the plotted values, one in each row.

/// One plotted value, in the unit of its axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// Letter of the panel.
    pub(crate) panel: char,
    /// Name of the data set.
    pub(crate) data: String,
    /// Name of the arm.
    pub(crate) arm: String,
    /// What is plotted, with its unit.
    pub(crate) quantity: String,
    /// The quantity on the x axis.
    pub(crate) x_name: &'static str,
    /// x.
    pub(crate) x: f64,
    /// The mark.
    pub(crate) mark: Mark,
}

/// A row's mark.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mark {
    /// A mean over `n` seeds, with the ends of its band or interval.
    Mean {
        /// The mean.
        value: f64,
        /// The ends, if there are any.
        ends: Option<[f64; 2]>,
        /// How many seeds.
        n: usize,
    },
    /// The value of one seed.
    Seed {
        /// The seed.
        seed: u64,
        /// Its value.
        value: f64,
    },
    /// A number that is printed beside the marks, such as p.
    Printed {
        /// The number.
        value: f64,
    },
    /// No run has finished.
    Nothing,
}

/// The rows as CSV with a header.
pub(crate) fn long_format(rows: &[Row]) -> String {
    let mut out = vec![
        ["panel", "data", "arm", "quantity", "x_name", "x", "seed", "value", "low", "high", "n"]
            .map(String::from)
            .to_vec(),
    ];
    let none = String::new;
    for row in rows {
        let mut cells = vec![
            row.panel.to_string(),
            row.data.clone(),
            row.arm.clone(),
            row.quantity.clone(),
            row.x_name.to_string(),
            row.x.to_string(),
        ];
        cells.extend(match row.mark {
            Mark::Mean { value, ends, n } => {
                let [low, high] = ends.map_or_else(<[String; 2]>::default, |ends| ends.map(|end| end.to_string()));
                [String::new(), value.to_string(), low, high, n.to_string()]
            }
            Mark::Seed { seed, value } => [seed.to_string(), value.to_string(), none(), none(), none()],
            Mark::Printed { value } => [none(), value.to_string(), none(), none(), none()],
            Mark::Nothing => [none(), none(), none(), none(), "0".into()],
        });
        out.push(cells);
    }
    csv(&out)
}

/// Cells as CSV (RFC 4180, with newlines instead of carriage returns).
pub(crate) fn csv(rows: &[Vec<String>]) -> String {
    let cell = |text: &String| {
        if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.clone() }
    };
    rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(",") + "\n").collect()
}
