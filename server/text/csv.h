// Comma- or tab-separated values, cut into records and fields.
//
// RFC 4180: a field in quotes may hold delimiters, line breaks, and quotes that are doubled. As in
// other readers, quotes inside a field that does not begin with one are text.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

struct CsvDialect {
  char delimiter = ',';
  bool quotes = true;  // false: a quote is a character like any other
};

// Whether a field in quotes is open behind `line`, where it was so in front of it: then the record
// goes on in the next line.
bool CsvFieldStaysOpen(absl::string_view line, CsvDialect dialect, bool open);

// The fields of a record as they are written, quotes included. `record` has no line break at its
// end. InvalidArgument naming the field: something follows its closing quote, or it has none.
absl::StatusOr<std::vector<absl::string_view>> SplitCsvRecord(absl::string_view record,
                                                              CsvDialect dialect);

// What a field of SplitCsvRecord says.
std::string CsvFieldText(absl::string_view field, CsvDialect dialect);

}  // namespace featurescope
