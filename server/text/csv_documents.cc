// CSV and TSV with a header: one column is the documents' text.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/formats/utf8.h"
#include "server/text/csv.h"
#include "server/text/document_source.h"
#include "server/text/text_pieces.h"

namespace featurescope {
namespace {

constexpr size_t kMaxNamesShown = 30;

std::string Quoted(std::vector<std::string> names) {
  if (names.size() > kMaxNamesShown) {
    names.resize(kMaxNamesShown);
    names.push_back("...");
  }
  return absl::StrJoin(names, ", ", [](std::string* out, const std::string& name) {
    absl::StrAppend(out, "\"", PrintableUtf8(name, 60), "\"");
  });
}

class CsvDocuments final : public DocumentSource {
 public:
  CsvDocuments(CompressedFile file, CsvDialect dialect)
      : name_(file.path()), dialect_(dialect), lines_(std::move(file), "\n", kMaxRecordBytes) {}

  // REQUIRES: called first, once.
  absl::Status ReadHeader(const std::string& column) {
    Record header;
    ASSIGN_OR_RETURN(const bool any, Next(&header));
    if (!any) return InvalidArgument(name_, ": is empty, it must begin with a header line");
    const std::string where = Where(header);
    RETURN_IF_ERROR(CheckIsText(header.bytes, true, where));
    if (absl::StrContains(header.bytes, '\r')) {
      return InvalidArgument(where,
                             ": carriage returns without line feeds; lines must end in LF "
                             "or CR LF");
    }
    std::vector<std::string> names;
    ASSIGN_OR_RETURN(const std::vector<absl::string_view> fields, Split(header));
    names.reserve(fields.size());
    for (const absl::string_view field : fields) names.push_back(CsvFieldText(field, dialect_));
    n_columns_ = names.size();
    const auto n_found = std::count(names.begin(), names.end(), column);
    column_ = static_cast<size_t>(std::find(names.begin(), names.end(), column) - names.begin());
    if (n_found == 1) return absl::OkStatus();
    return InvalidArgument(where, ": ", n_found == 0 ? "has no" : "has more than one", " column \"",
                           PrintableUtf8(column), "\"; its columns are ", Quoted(std::move(names)));
  }

  absl::StatusOr<bool> Next(Record* record) override {
    do {
      ASSIGN_OR_RETURN(const bool more, NextLines(record));
      if (!more) return false;
    } while (record->bytes.empty());
    return true;
  }

  absl::StatusOr<std::string> Text(Record record) const override {
    RETURN_IF_ERROR(CheckIsText(record.bytes, false, Where(record)));
    ASSIGN_OR_RETURN(const std::vector<absl::string_view> fields, Split(record));
    if (fields.size() != n_columns_) {
      return InvalidArgument(Where(record), ": has ", fields.size(), " fields, the header has ",
                             n_columns_);
    }
    return CsvFieldText(fields[column_], dialect_);
  }

  std::string Where(const Record& record) const override {
    return absl::StrCat(name_, ":", record.number);
  }

  const CompressedFile& file() const override { return lines_.file(); }

 private:
  // The lines of a record, without the last one's end.
  absl::StatusOr<bool> NextLines(Record* record) {
    ASSIGN_OR_RETURN(const bool more, lines_.Next(&record->bytes));
    if (!more) return false;
    record->number = lines_.number();
    if (record->number == 1 && absl::StartsWith(record->bytes, kByteOrderMark)) {
      record->bytes.erase(0, kByteOrderMark.size());
    }
    std::string line;
    for (bool open = CsvFieldStaysOpen(record->bytes, dialect_, false); open;) {
      ASSIGN_OR_RETURN(const bool another, lines_.Next(&line));
      if (!another || record->bytes.size() + line.size() >= kMaxRecordBytes) {
        return InvalidArgument(Where(*record), ": the quotes of a field that begins here are ",
                               another
                                   ? absl::StrCat("not closed within ", kMaxRecordBytes, " bytes")
                                   : "never closed",
                               "; if quotes mean nothing in this file, say so");
      }
      absl::StrAppend(&record->bytes, "\n", line);
      open = CsvFieldStaysOpen(line, dialect_, true);
    }
    if (absl::EndsWith(record->bytes, "\r")) record->bytes.pop_back();
    return true;
  }

  absl::StatusOr<std::vector<absl::string_view>> Split(const Record& record) const {
    absl::StatusOr<std::vector<absl::string_view>> fields = SplitCsvRecord(record.bytes, dialect_);
    if (fields.ok()) return fields;
    return Annotate(fields.status(), Where(record));
  }

  const std::string name_;
  const CsvDialect dialect_;
  size_t n_columns_ = 0;
  size_t column_ = 0;
  TextPieces lines_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<DocumentSource>> OpenCsv(CompressedFile file,
                                                        const DocumentOptions& options,
                                                        char delimiter) {
  auto source =
      std::make_shared<CsvDocuments>(std::move(file), CsvDialect{delimiter, options.csv_quotes});
  RETURN_IF_ERROR(source->ReadHeader(options.text_field));
  return source;
}

}  // namespace featurescope
