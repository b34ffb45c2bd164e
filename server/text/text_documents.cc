// Plain text: a file is a document, or what lies between two separators is one.
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/text/document_source.h"
#include "server/text/text_pieces.h"
#include "server/text/tokenizer.h"

namespace featurescope {
namespace {

class TextDocuments final : public DocumentSource {
 public:
  TextDocuments(CompressedFile file, const std::string& separator)
      : name_(file.path()),
        is_one_document_(separator.empty()),
        pieces_(std::move(file), separator, kMaxTextBytes) {}

  absl::StatusOr<bool> Next(Record* record) override {
    ASSIGN_OR_RETURN(const bool more, pieces_.Next(&record->bytes));
    record->number = pieces_.number();
    return more;
  }

  absl::StatusOr<std::string> Text(Record record) const override {
    const bool is_first = record.number == 1;
    RETURN_IF_ERROR(CheckIsText(record.bytes, is_first, Where(record)));
    if (is_first && absl::StartsWith(record.bytes, kByteOrderMark)) {
      record.bytes.erase(0, kByteOrderMark.size());
    }
    return std::move(record.bytes);
  }

  std::string Where(const Record& record) const override {
    return is_one_document_ ? name_ : absl::StrCat(name_, ", document ", record.number);
  }

  const CompressedFile& file() const override { return pieces_.file(); }

 private:
  const std::string name_;
  const bool is_one_document_;
  TextPieces pieces_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<DocumentSource>> OpenTextDocuments(CompressedFile file,
                                                                  const DocumentOptions& options) {
  return std::make_shared<TextDocuments>(std::move(file), options.text_separator);
}

}  // namespace featurescope
