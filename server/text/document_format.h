// The formats of text files that corpora are made of, and how names say which one a file has.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/formats/compressed_file.h"

namespace featurescope {

enum class DocumentFormat {
  kByName,     // as the file's name says
  kText,       // one document a file, or one between separators
  kJsonLines,  // one JSON object a line, one document each
  kCsv,        // one document a record
  kTsv,        // the same with tabs
};

// "", "text", "jsonl", "csv", "tsv".
absl::string_view DocumentFormatName(DocumentFormat format);
// InvalidArgument: no such name.
absl::StatusOr<DocumentFormat> ParseDocumentFormat(absl::string_view name);

// What the end of a file's name says, the compression's (.gz, .zst) taken off; kByName: nothing.
DocumentFormat FormatOfName(absl::string_view file_name);
// kNone: nothing.
Compression CompressionOfName(absl::string_view file_name);

// For messages: what names may end in.
constexpr absl::string_view kDocumentFileNames =
    ".txt (one document a file), .jsonl (one object a line), .csv or .tsv (with a header), each "
    "also with .gz or .zst behind it";

}  // namespace featurescope
