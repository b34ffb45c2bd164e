#include "server/formats/torch_writer.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/little_endian.h"
#include "server/formats/tensor_shape.h"
#include "server/formats/torch_file.h"
#include "server/formats/torch_pickle.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

constexpr absl::string_view kFolder = "archive/";
constexpr size_t kAlignment = 64;        // of every member's bytes, for readers that map them
constexpr uint16_t kFlags = 0x0808;      // names in UTF-8, check sum and sizes behind the bytes
constexpr uint64_t kMax32 = 0xFFFFFFFF;  // "see the zip64 extra field"
constexpr size_t kItemsAtOnce = 1000;

std::string Quoted(absl::string_view name) {
  return absl::StrCat("\"", PrintableUtf8(name, 200), "\"");
}

// Writes data.pkl, opcode by opcode as Python's pickler does with protocol 2.
class StateDictPickler {
 public:
  std::string Pickle(const std::vector<TorchStateDictWriter::Spec>& specs) {
    out_ = "\x80\x02";
    EmptyOrderedDict();
    for (size_t begin = 0; begin < specs.size(); begin += kItemsAtOnce) {
      const size_t end = std::min(specs.size(), begin + kItemsAtOnce);
      if (end - begin > 1) out_.push_back('(');
      for (size_t i = begin; i < end; ++i) {
        NewText(specs[i].name);
        Tensor(specs[i], i);
      }
      out_.push_back(end - begin > 1 ? 'u' : 's');
    }
    out_.push_back('.');
    return std::move(out_);
  }

 private:
  void Note() {
    if (noted_ < 256) {
      out_.push_back('q');
      out_.push_back(static_cast<char>(noted_));
    } else {
      out_.push_back('r');
      AppendLe(&out_, noted_);
    }
    ++noted_;
  }

  // A value that occurs again and again: written once, then referred to.
  template <typename Write>
  void Once(absl::string_view what, Write write) {
    const auto [place, first] = once_.emplace(what, noted_);
    if (first) {
      write();
      Note();
    } else if (place->second < 256) {
      out_.push_back('h');
      out_.push_back(static_cast<char>(place->second));
    } else {
      out_.push_back('j');
      AppendLe(&out_, place->second);
    }
  }

  // `full_name` as in "module.Name".
  void Global(absl::string_view full_name) {
    Once(full_name, [&] {
      const size_t dot = full_name.rfind('.');
      absl::StrAppend(&out_, "c", full_name.substr(0, dot), "\n", full_name.substr(dot + 1), "\n");
    });
  }

  void Text(absl::string_view text) {
    out_.push_back('X');
    AppendLe(&out_, static_cast<uint32_t>(text.size()));
    out_.append(text.data(), text.size());
  }
  void NewText(absl::string_view text) {
    Text(text);
    Note();
  }
  void KnownText(absl::string_view text) {
    Once(text, [&] { Text(text); });
  }

  void Int(int64_t value) {
    if (value < 1 << 8) {
      out_.push_back('K');
      AppendLe(&out_, static_cast<uint8_t>(value));
    } else if (value < 1 << 16) {
      out_.push_back('M');
      AppendLe(&out_, static_cast<uint16_t>(value));
    } else if (value <= INT32_MAX) {
      out_.push_back('J');
      AppendLe(&out_, static_cast<int32_t>(value));
    } else {
      size_t n = 5;  // bytes, with room for the sign
      while (n < 8 && value >> (8 * n - 1) != 0) ++n;
      out_.append("\x8a");
      out_.push_back(static_cast<char>(n));
      out_.append(reinterpret_cast<const char*>(&value), n);
    }
  }

  void Tuple(absl::Span<const int64_t> values) {
    if (values.empty()) {
      out_.push_back(')');
      return;
    }
    if (values.size() > 3) out_.push_back('(');
    for (int64_t value : values) Int(value);
    out_.push_back(values.size() > 3 ? 't' : static_cast<char>(0x84 + values.size()));
    Note();
  }

  void EmptyOrderedDict() {
    Global("collections.OrderedDict");
    out_.append(")R");
    Note();
  }

  void Tensor(const TorchStateDictWriter::Spec& spec, size_t key) {
    std::vector<int64_t> strides(spec.shape.size(), 1);
    for (size_t i = spec.shape.size(); i-- > 1;) {
      strides[i - 1] = strides[i] * std::max<int64_t>(spec.shape[i], 1);
    }
    int64_t n_elements = 1;
    for (int64_t dim : spec.shape) n_elements *= dim;

    Global("torch._utils._rebuild_tensor_v2");
    out_.append("((");
    KnownText("storage");
    Global(TorchStorageGlobal(spec.dtype));
    NewText(absl::StrCat(key));
    KnownText("cpu");
    Int(n_elements);
    out_.push_back('t');
    Note();
    out_.push_back('Q');
    Int(0);  // offset in the storage
    Tuple(spec.shape);
    Tuple(strides);
    out_.append("\x89");  // requires_grad
    EmptyOrderedDict();   // backward_hooks
    out_.push_back('t');
    Note();
    out_.push_back('R');
    Note();
  }

  std::string out_;
  uint32_t noted_ = 0;  // values that can be referred to
  absl::flat_hash_map<std::string, uint32_t> once_;
};

// The zip64 extra field with these values; empty when there are none.
std::string Zip64Extra(absl::Span<const uint64_t> values) {
  std::string extra;
  if (values.empty()) return extra;
  AppendLe(&extra, uint16_t{1});
  AppendLe(&extra, static_cast<uint16_t>(values.size() * 8));
  for (uint64_t value : values) AppendLe(&extra, value);
  return extra;
}

}  // namespace

TorchStateDictWriter::TorchStateDictWriter(AtomicFile file, std::vector<Tensor> tensors)
    : file_(std::move(file)), tensors_(std::move(tensors)) {}

absl::StatusOr<TorchStateDictWriter> TorchStateDictWriter::Create(const std::string& path,
                                                                  const std::vector<Spec>& specs) {
  if (specs.size() > kMaxTorchStorages - 3) {
    return InvalidArgument(path, ": ", specs.size(), " tensors, at most ", kMaxTorchStorages - 3,
                           " are allowed");
  }
  absl::flat_hash_set<absl::string_view> names;
  std::vector<Tensor> tensors;
  uint64_t total = 0;
  for (const Spec& spec : specs) {
    const std::string where = absl::StrCat(path, ": tensor ", Quoted(spec.name));
    if (spec.name.size() > kMaxTensorNameBytes || !names.insert(spec.name).second ||
        ValidUtf8Prefix(spec.name) != spec.name.size()) {
      return InvalidArgument(where, ": name is too long, no UTF-8 or given twice");
    }
    ASSIGN_OR_RETURN(const uint64_t bytes, CheckedTensorBytes(spec.dtype, spec.shape, where));
    total += bytes;
    if (total > uint64_t{1} << 62) return InvalidArgument(where, ": the file would be too large");
    tensors.push_back({spec.name, bytes});
  }
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  TorchStateDictWriter writer(std::move(file), std::move(tensors));
  RETURN_IF_ERROR(writer.WriteRecord("data.pkl", StateDictPickler().Pickle(specs)));
  RETURN_IF_ERROR(writer.WriteRecord("byteorder", "little"));
  RETURN_IF_ERROR(writer.BeginTensors());
  return writer;
}

absl::Status TorchStateDictWriter::BeginRecord(absl::string_view name, uint64_t bytes) {
  Record record;
  record.name = absl::StrCat(kFolder, name);
  record.bytes = bytes;
  record.header_offset = file_.bytes_written();
  const bool large = bytes >= kMax32;
  std::string extra = large ? Zip64Extra({bytes, bytes}) : "";
  constexpr size_t kFixedBytes = 30 + 4;  // the header and the padding's own head
  const size_t before =
      (record.header_offset + kFixedBytes + record.name.size() + extra.size()) % kAlignment;
  const size_t padding = before == 0 ? 0 : kAlignment - before;
  extra.append("FB");
  AppendLe(&extra, static_cast<uint16_t>(padding));
  extra.append(padding, 'Z');

  std::string header = "PK\x03\x04";
  AppendLe(&header, uint16_t{0});  // version
  AppendLe(&header, kFlags);
  AppendLe(&header, uint16_t{0});  // stored
  AppendLe(&header, uint32_t{0});  // time
  AppendLe(&header, uint32_t{0});  // check sum
  AppendLe(&header, static_cast<uint32_t>(large ? kMax32 : 0));
  AppendLe(&header, static_cast<uint32_t>(large ? kMax32 : 0));
  AppendLe(&header, static_cast<uint16_t>(record.name.size()));
  AppendLe(&header, static_cast<uint16_t>(extra.size()));
  records_.push_back(std::move(record));
  return file_.Append(absl::StrCat(header, records_.back().name, extra));
}

absl::Status TorchStateDictWriter::AppendToRecord(absl::string_view bytes) {
  uint32_t& crc = records_.back().crc32;
  crc = static_cast<uint32_t>(
      crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
  return file_.Append(bytes);
}

absl::Status TorchStateDictWriter::EndRecord() {
  const Record& record = records_.back();
  std::string descriptor = "PK\x07\x08";
  AppendLe(&descriptor, record.crc32);
  for (int i = 0; i < 2; ++i) {
    if (record.bytes >= kMax32) {
      AppendLe(&descriptor, record.bytes);
    } else {
      AppendLe(&descriptor, static_cast<uint32_t>(record.bytes));
    }
  }
  return file_.Append(descriptor);
}

absl::Status TorchStateDictWriter::WriteRecord(absl::string_view name, absl::string_view content) {
  RETURN_IF_ERROR(BeginRecord(name, content.size()));
  RETURN_IF_ERROR(AppendToRecord(content));
  return EndRecord();
}

absl::Status TorchStateDictWriter::BeginTensors() {
  while (current_ < tensors_.size()) {
    RETURN_IF_ERROR(BeginRecord(absl::StrCat("data/", current_), tensors_[current_].bytes));
    if (tensors_[current_].bytes > 0) break;
    RETURN_IF_ERROR(EndRecord());
    ++current_;
  }
  return absl::OkStatus();
}

absl::Status TorchStateDictWriter::Append(absl::string_view name, absl::Span<const char> bytes) {
  if (bytes.empty()) return absl::OkStatus();
  if (current_ >= tensors_.size() || tensors_[current_].name != name) {
    return FailedPrecondition(
        file_.path(), ": bytes of tensor ", Quoted(name), " came when ",
        current_ < tensors_.size() ? Quoted(tensors_[current_].name) : "no tensor", " was due");
  }
  const Tensor& tensor = tensors_[current_];
  if (bytes.size() > tensor.bytes - written_) {
    return FailedPrecondition(file_.path(), ": tensor ", Quoted(name), " got ",
                              written_ + bytes.size(), " bytes, it has ", tensor.bytes);
  }
  RETURN_IF_ERROR(AppendToRecord(absl::string_view(bytes.data(), bytes.size())));
  written_ += bytes.size();
  if (written_ < tensor.bytes) return absl::OkStatus();
  RETURN_IF_ERROR(EndRecord());
  written_ = 0;
  ++current_;
  return BeginTensors();
}

absl::Status TorchStateDictWriter::Finish() {
  if (current_ < tensors_.size()) {
    const Tensor& tensor = tensors_[current_];
    return FailedPrecondition(file_.path(), ": tensor ", Quoted(tensor.name),
                              " is incomplete: ", written_, " of ", tensor.bytes, " bytes");
  }
  RETURN_IF_ERROR(WriteRecord("version", "3\n"));
  RETURN_IF_ERROR(WriteDirectory());
  return file_.Commit();
}

absl::Status TorchStateDictWriter::WriteDirectory() {
  const uint64_t offset = file_.bytes_written();
  std::string directory;
  for (const Record& record : records_) {
    std::vector<uint64_t> wide;
    if (record.bytes >= kMax32) wide = {record.bytes, record.bytes};
    if (record.header_offset >= kMax32) wide.push_back(record.header_offset);
    const std::string extra = Zip64Extra(wide);
    const uint32_t bytes = static_cast<uint32_t>(std::min(record.bytes, kMax32));
    directory.append("PK\x01\x02");
    AppendLe(&directory, uint32_t{0});  // versions
    AppendLe(&directory, kFlags);
    AppendLe(&directory, uint16_t{0});  // stored
    AppendLe(&directory, uint32_t{0});  // time
    AppendLe(&directory, record.crc32);
    AppendLe(&directory, bytes);
    AppendLe(&directory, bytes);
    AppendLe(&directory, static_cast<uint16_t>(record.name.size()));
    AppendLe(&directory, static_cast<uint16_t>(extra.size()));
    directory.append(10, '\0');  // comment, disk, attributes
    AppendLe(&directory, static_cast<uint32_t>(std::min(record.header_offset, kMax32)));
    absl::StrAppend(&directory, record.name, extra);
  }
  const uint64_t n = records_.size();
  std::string end = absl::StrCat("PK\x06\x06");
  AppendLe(&end, uint64_t{44});      // bytes that follow
  AppendLe(&end, uint16_t{0x031e});  // made by
  AppendLe(&end, uint16_t{45});      // zip64
  AppendLe(&end, uint64_t{0});       // disks
  AppendLe(&end, n);
  AppendLe(&end, n);
  AppendLe(&end, uint64_t{directory.size()});
  AppendLe(&end, offset);
  end.append("PK\x06\x07");
  AppendLe(&end, uint32_t{0});  // disk
  AppendLe(&end, uint64_t{offset + directory.size()});
  AppendLe(&end, uint32_t{1});  // disks
  end.append("PK\x05\x06");
  AppendLe(&end, uint32_t{0});  // disks
  AppendLe(&end, static_cast<uint16_t>(std::min<uint64_t>(n, 0xFFFF)));
  AppendLe(&end, static_cast<uint16_t>(std::min<uint64_t>(n, 0xFFFF)));
  AppendLe(&end, static_cast<uint32_t>(std::min<uint64_t>(directory.size(), kMax32)));
  AppendLe(&end, static_cast<uint32_t>(std::min(offset, kMax32)));
  AppendLe(&end, uint16_t{0});  // comment
  return file_.Append(absl::StrCat(directory, end));
}

}  // namespace featurescope
