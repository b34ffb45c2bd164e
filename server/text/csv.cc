#include "server/text/csv.h"

#include <algorithm>

#include "absl/strings/str_replace.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr auto kNone = absl::string_view::npos;

// Where the quote is that closes a field whose text goes on at `at`; kNone: not in `text`.
size_t FindClosingQuote(absl::string_view text, size_t at) {
  while (true) {
    at = text.find('"', at);
    if (at == kNone) return kNone;
    if (at + 1 == text.size() || text[at + 1] != '"') return at;
    at += 2;
  }
}

bool BeginsQuoted(absl::string_view text, size_t at, CsvDialect dialect) {
  return dialect.quotes && at < text.size() && text[at] == '"';
}

}  // namespace

bool CsvFieldStaysOpen(absl::string_view line, CsvDialect dialect, bool open) {
  if (!dialect.quotes) return false;
  size_t at = 0;
  if (!open && BeginsQuoted(line, at, dialect)) {
    open = true;
    ++at;
  }
  while (true) {
    if (open) {
      at = FindClosingQuote(line, at);
      if (at == kNone) return true;
    }
    at = line.find(dialect.delimiter, at);
    if (at == kNone) return false;
    ++at;
    open = BeginsQuoted(line, at, dialect);
    if (open) ++at;
  }
}

absl::StatusOr<std::vector<absl::string_view>> SplitCsvRecord(absl::string_view record,
                                                              CsvDialect dialect) {
  std::vector<absl::string_view> fields;
  size_t begin = 0;
  while (true) {
    size_t end = 0;
    if (BeginsQuoted(record, begin, dialect)) {
      end = FindClosingQuote(record, begin + 1);
      if (end == kNone) {
        return InvalidArgument("field ", fields.size() + 1, ": its quotes are never closed");
      }
      ++end;
      if (end < record.size() && record[end] != dialect.delimiter) {
        return InvalidArgument("field ", fields.size() + 1,
                               ": something follows its closing quote");
      }
    } else {
      end = std::min(record.find(dialect.delimiter, begin), record.size());
    }
    fields.push_back(record.substr(begin, end - begin));
    if (end == record.size()) return fields;
    begin = end + 1;
  }
}

std::string CsvFieldText(absl::string_view field, CsvDialect dialect) {
  if (!BeginsQuoted(field, 0, dialect)) return std::string(field);
  return absl::StrReplaceAll(field.substr(1, field.size() - 2), {{"\"\"", "\""}});
}

}  // namespace featurescope
