// Any bytes as a CSV or TSV: refused, or each record gives a text that can be written and read
// back.
//
//   input  what is special, one byte | the column, up to a line break | the file

#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/text/csv.h"
#include "server/text/document_source.h"
#include "tests/fuzz/memory_file.h"

namespace featurescope {
namespace {

void CheckRoundTrip(const std::string& text) {
  const std::string record = absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\",");
  const auto fields = SplitCsvRecord(record, CsvDialect());
  if (!fields.ok() || fields->size() != 2) abort();
  if (CsvFieldText((*fields)[0], CsvDialect()) != text) abort();
}

void ReadCsv(absl::string_view bytes, const DocumentOptions& options, char delimiter) {
  auto file = CompressedFile::FromFd(MemoryFile(bytes), bytes.size(), "f");
  if (!file.ok()) abort();
  const auto source = OpenCsv(*std::move(file), options, delimiter);
  if (!source.ok()) return;
  Record record;
  for (uint64_t last = 1;; last = record.number) {
    const auto more = (*source)->Next(&record);
    if (!more.ok() || !*more) return;
    if (record.bytes.empty() || record.number <= last) abort();
    const auto text = (*source)->Text(record);
    if (!text.ok()) continue;
    if (text->size() > record.bytes.size()) abort();
    CheckRoundTrip(*text);
  }
}

}  // namespace
}  // namespace featurescope

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;
  if (size == 0) return 0;
  absl::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  DocumentOptions options;
  options.text_field = std::string(TakeLine(&input));
  options.csv_quotes = (data[0] & 1) == 0;
  ReadCsv(input, options, (data[0] & 2) == 0 ? ',' : '\t');
  return 0;
}
