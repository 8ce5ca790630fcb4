//! A table as a parquet file: columns by name, every one of them nullable, compressed by snappy.

use std::sync::Arc;

use ::parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use ::parquet::data_type::{ByteArrayType, DataType, DoubleType, Int64Type};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::types::Type;

use super::frame::{Column, Frame, Values};

/// The bytes of a file with one row group.
pub(crate) fn parquet(frame: &Frame) -> Result<Vec<u8>> {
    let fields = frame.columns.iter().map(field).collect::<Result<Vec<_>>>()?;
    let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    for column in &frame.columns {
        match &column.values {
            Values::Text(values) => write::<ByteArrayType, _>(&mut group, values, |text| text.as_str().into())?,
            Values::Number(values) => write::<DoubleType, _>(&mut group, values, |number| *number)?,
            // As the bits of an unsigned number, which the schema says it is.
            Values::Count(values) => write::<Int64Type, _>(&mut group, values, |count| count.cast_signed())?,
        }
    }
    group.close()?;
    file.close()?;
    Ok(bytes)
}

fn field(column: &Column) -> Result<Arc<Type>> {
    let (physical, logical) = match &column.values {
        Values::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Values::Number(_) => (Physical::DOUBLE, None),
        Values::Count(_) => (Physical::INT64, Some(LogicalType::integer(64, false))),
    };
    let field = Type::primitive_type_builder(&column.name, physical);
    Ok(Arc::new(field.with_repetition(Repetition::OPTIONAL).with_logical_type(logical).build()?))
}

fn write<D: DataType, T>(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    values: &[Option<T>],
    stored: impl Fn(&T) -> D::T,
) -> Result<()> {
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let there: Vec<D::T> = values.iter().flatten().map(stored).collect();
    let missing = || ParquetError::General("a table has more columns than its schema".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<D>().write_batch(&there, Some(&levels), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
    use ::parquet::record::RowAccessor as _;

    use super::*;

    fn read(bytes: &[u8]) -> SerializedFileReader<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        SerializedFileReader::new(file).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_nothing_and_infinity_included() {
        let mut frame = Frame::default();
        let name = |name: &str| name.to_owned();
        frame.row([(name("arm"), "α".into()), (name("seed"), u64::MAX.into()), (name("loss"), 0.1.into())]);
        frame.row([(name("arm"), "b".into()), (name("loss"), f64::INFINITY.into())]);
        let bytes = parquet(&frame).unwrap();
        assert_eq!(bytes, parquet(&frame).unwrap(), "the same table is the same file");
        let reader = read(&bytes);
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(std::result::Result::unwrap).collect();
        assert_eq!((rows[0].get_string(0).unwrap().as_str(), rows[0].get_ulong(1).unwrap()), ("α", u64::MAX));
        assert_eq!(rows[0].get_double(2).unwrap(), 0.1);
        assert!(rows[1].is_null(1).unwrap() && rows[1].get_double(2).unwrap().is_infinite());
    }

    #[test]
    fn a_table_without_rows_is_a_file() {
        let bytes = parquet(&Frame::default()).unwrap();
        assert_eq!(read(&bytes).metadata().file_metadata().num_rows(), 0);
    }
}
