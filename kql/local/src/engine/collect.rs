//! Aggregates that DataFusion does not have, or has with other rules: lists, sets and bags as JSON, nearest-rank percentiles, exact averages of ticks and
//! decimals. Pure; used by [`super::summarize`].

use std::{
    collections::HashSet,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{Array as _, ArrayRef, AsArray as _},
        datatypes::{DataType, Decimal128Type, Field, FieldRef, Float64Type, Int64Type},
    },
    common::{Result, ScalarValue, exec_datafusion_err},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};
use serde_json::{Map, Value};

use super::{json, scalar::decimal_value};
use crate::rows::{DECIMAL_PRECISION, DECIMAL_SCALE};

/// What is made of a group's values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Collect {
    /// A JSON array of the values, which come as JSON texts.
    List {
        /// At most so many.
        most: usize,
        /// Nulls are kept.
        nulls: bool,
    },
    /// The same without repetitions.
    Set {
        /// At most so many.
        most: usize,
    },
    /// One property bag of many; the first value of a key stays.
    Bag {
        /// At most so many keys.
        most: usize,
    },
    /// The mean of ticks.
    AverageTicks,
    /// The mean of decimals.
    AverageDecimal,
    /// The value at a percentage of the sorted values, of ticks or whole numbers.
    PercentileWhole(f64),
    /// The same of reals.
    PercentileReal(f64),
}

impl Collect {
    /// The DataFusion function.
    pub(crate) fn function(self) -> Arc<AggregateUDF> {
        Arc::new(AggregateUDF::new_from_impl(CollectFunction {
            name: format!("{self:?}"),
            collect: self,
            signature: Signature::any(1, Volatility::Immutable),
        }))
    }

    const fn returns(self) -> DataType {
        match self {
            Self::List { .. } | Self::Set { .. } | Self::Bag { .. } => DataType::Utf8,
            Self::AverageTicks | Self::PercentileWhole(_) => DataType::Int64,
            Self::PercentileReal(_) => DataType::Float64,
            Self::AverageDecimal => DataType::Decimal128(DECIMAL_PRECISION, DECIMAL_SCALE),
        }
    }
}

struct CollectFunction {
    name: String,
    collect: Collect,
    signature: Signature,
}

impl fmt::Debug for CollectFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
// The name prints everything that distinguishes two of them.
impl PartialEq for CollectFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for CollectFunction {}
impl Hash for CollectFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AggregateUDFImpl for CollectFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.collect.returns())
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(match self.collect {
            Collect::List { most, nulls } => Box::new(Texts { most, nulls, ..Texts::default() }),
            Collect::Set { most } => Box::new(Texts { most, seen: Some(HashSet::new()), ..Texts::default() }),
            Collect::Bag { most } => Box::new(Bag { most, ..Bag::default() }),
            Collect::AverageTicks => Box::new(Average::default()),
            Collect::AverageDecimal => Box::new(Average { decimal: true, ..Average::default() }),
            Collect::PercentileWhole(percentage) => {
                Box::new(Percentile { percentage, real: false, values: Vec::new() })
            }
            Collect::PercentileReal(percentage) => Box::new(Percentile { percentage, real: true, values: Vec::new() }),
        })
    }

    /// One text: states hardly ever travel here (one partition, one pass), so the simplest form will do.
    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}_state", args.name), DataType::Utf8, true))])
    }
}

fn texts(array: &ArrayRef) -> Result<impl Iterator<Item = Option<&str>>> {
    array
        .as_string_opt::<i32>()
        .map(|array| array.iter())
        .ok_or_else(|| exec_datafusion_err!("an aggregate over JSON got values of type {}", array.data_type()))
}

fn text_state(text: String) -> Result<Vec<ScalarValue>> {
    Ok(vec![ScalarValue::Utf8(Some(text))])
}

#[derive(Debug, Default)]
struct Texts {
    most: usize,
    nulls: bool,
    seen: Option<HashSet<String>>,
    values: Vec<String>,
    bytes: usize,
}

impl Texts {
    fn push(&mut self, text: &str) {
        if self.values.len() >= self.most {
            return;
        }
        if let Some(seen) = &mut self.seen
            && !seen.insert(text.to_owned())
        {
            return;
        }
        self.bytes += text.len() + size_of::<String>();
        self.values.push(text.to_owned());
    }

    fn array(&self) -> String {
        format!("[{}]", self.values.join(","))
    }
}

impl Accumulator for Texts {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for text in texts(&values[0])? {
            match text {
                // A set of arrays is the set of their elements; a list keeps them as they are.
                Some(text) if self.seen.is_some() && text.starts_with('[') => {
                    for element in json::elements(text).unwrap_or_default() {
                        if element != "null" {
                            self.push(element);
                        }
                    }
                }
                Some(text) => self.push(text),
                None if self.nulls => self.push("null"),
                None => {}
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Utf8(Some(self.array())))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bytes * if self.seen.is_some() { 2 } else { 1 }
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        text_state(self.array())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in texts(&states[0])?.flatten() {
            for element in json::elements(state).unwrap_or_default() {
                self.push(element);
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Bag {
    most: usize,
    values: Map<String, Value>,
    bytes: usize,
}

impl Accumulator for Bag {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for text in texts(&values[0])?.flatten() {
            // What is no bag does not count.
            if let Ok(Value::Object(bag)) = serde_json::from_str(text) {
                self.bytes += text.len();
                for (key, value) in bag {
                    if self.values.len() < self.most {
                        self.values.entry(key).or_insert(value);
                    }
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Utf8(Some(Value::Object(self.values.clone()).to_string())))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bytes * 2
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

#[derive(Debug, Default)]
struct Average {
    decimal: bool,
    sum: i128,
    count: i128,
}

impl Accumulator for Average {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if let Some(array) = values[0].as_primitive_opt::<Int64Type>() {
            for value in array.iter().flatten() {
                self.sum += i128::from(value);
                self.count += 1;
            }
        } else if let Some(array) = values[0].as_primitive_opt::<Decimal128Type>() {
            for value in array.iter().flatten() {
                self.sum = self.sum.wrapping_add(value);
                self.count += 1;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mean = self.sum.checked_div(self.count);
        Ok(if self.decimal {
            decimal_value(mean)
        } else {
            ScalarValue::Int64(mean.and_then(|mean| i64::try_from(mean).ok()))
        })
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        text_state(format!("{} {}", self.sum, self.count))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in texts(&states[0])?.flatten() {
            let mut numbers = state.split(' ').filter_map(|number| number.parse::<i128>().ok());
            self.sum = self.sum.wrapping_add(numbers.next().unwrap_or(0));
            self.count += numbers.next().unwrap_or(0);
        }
        Ok(())
    }
}

/// All values of a group, sorted when asked for. Reals are kept by their bits.
#[derive(Debug)]
struct Percentile {
    percentage: f64,
    real: bool,
    values: Vec<i64>,
}

impl Percentile {
    /// The smallest value that at least the percentage of all values do not exceed.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A rank lies between 0 and the count.
    fn position(&self) -> Option<usize> {
        let count = self.values.len();
        let rank = (self.percentage.clamp(0.0, 100.0) / 100.0 * count as f64).ceil() as usize;
        Some(rank.saturating_sub(1).min(count.checked_sub(1)?))
    }
}

impl Accumulator for Percentile {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if let Some(array) = values[0].as_primitive_opt::<Int64Type>() {
            self.values.extend(array.iter().flatten());
        } else if let Some(array) = values[0].as_primitive_opt::<Float64Type>() {
            self.values.extend(array.iter().flatten().map(|value| value.to_bits().cast_signed()));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let position = self.position();
        if self.real {
            let real = |bits: i64| f64::from_bits(bits.cast_unsigned());
            self.values.sort_unstable_by(|a, b| real(*a).total_cmp(&real(*b)));
            return Ok(ScalarValue::Float64(position.map(|position| real(self.values[position]))));
        }
        self.values.sort_unstable();
        Ok(ScalarValue::Int64(position.map(|position| self.values[position])))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<i64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let texts: Vec<String> = self.values.iter().map(i64::to_string).collect();
        text_state(texts.join(" "))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in texts(&states[0])?.flatten() {
            self.values.extend(state.split(' ').filter_map(|value| value.parse::<i64>().ok()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_of_the_group() {
        let at = |percentage: f64, values: &[i64]| {
            let mut percentile = Percentile { percentage, real: false, values: values.to_vec() };
            percentile.evaluate().expect("no error")
        };
        assert_eq!(at(50.0, &[3, 1, 2, 10]), ScalarValue::Int64(Some(2)));
        assert_eq!(at(90.0, &[3, 1, 2, 10]), ScalarValue::Int64(Some(10)));
        assert_eq!(at(0.0, &[3, 1]), ScalarValue::Int64(Some(1)));
        assert_eq!(at(50.0, &[]), ScalarValue::Int64(None));
    }
}
