// activations and capture: what a text does inside the model.
#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/cli/commands.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/formats/safetensors.h"

namespace featurescope {
namespace {

using v1::ExploreService;

constexpr uint64_t kMaxTokensFileBytes = 256 << 20;
constexpr int kDefaultTopK = 10;

absl::StatusOr<std::vector<v1::TextInput>> InputsFromSafetensors(const std::string& path) {
  ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  ASSIGN_OR_RETURN(const TensorEntry* entry, file.Get("input_ids"));
  if (entry->shape.size() != 2 || (entry->dtype != DType::kI64 && entry->dtype != DType::kI32)) {
    return InvalidArgument(path, ": input_ids must be I64 or I32 [batch, pos]");
  }
  std::string bytes(entry->bytes(), '\0');
  RETURN_IF_ERROR(file.Read(*entry, absl::MakeSpan(bytes)));
  const size_t width = entry->dtype == DType::kI64 ? 8 : 4;
  std::vector<v1::TextInput> inputs(static_cast<size_t>(entry->shape[0]));
  size_t at = 0;
  for (v1::TextInput& input : inputs) {
    input.mutable_token_ids();
    for (int64_t i = 0; i < entry->shape[1]; ++i, at += width) {
      int64_t id = 0;
      if (width == 8) {
        std::memcpy(&id, bytes.data() + at, 8);
      } else {
        int32_t narrow;
        std::memcpy(&narrow, bytes.data() + at, 4);
        id = narrow;
      }
      if (id < 0 || id > UINT32_MAX) return InvalidArgument(path, ": input_ids holds ", id);
      input.mutable_token_ids()->add_ids(static_cast<uint32_t>(id));
    }
  }
  return inputs;
}

absl::StatusOr<std::vector<v1::TextInput>> InputsFromFile(const std::string& path) {
  if (absl::EndsWith(path, ".safetensors")) return InputsFromSafetensors(path);
  ASSIGN_OR_RETURN(const nlohmann::json json, ReadJsonFile(path, kMaxTokensFileBytes, 4));
  if (!json.is_array())
    return InvalidArgument(path, ": must be a JSON array of arrays of token ids");
  std::vector<v1::TextInput> inputs;
  for (const auto& row : json) {
    if (!row.is_array()) return InvalidArgument(path, ": row ", inputs.size(), " is not an array");
    v1::TextInput& input = inputs.emplace_back();
    input.mutable_token_ids();
    for (const auto& id : row) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() > UINT32_MAX) {
        return InvalidArgument(path, ": row ", inputs.size() - 1, " holds ", id.dump(),
                               ", which is not a token id");
      }
      input.mutable_token_ids()->add_ids(id.get<uint32_t>());
    }
  }
  return inputs;
}

absl::StatusOr<std::vector<v1::TextInput>> CaptureInputs(const Args& args) {
  const int given = args.Has("text") + args.Has("tokens") + args.Has("tokens-file");
  if (given != 1) return InvalidArgument("give one of --text, --tokens, --tokens-file");
  if (args.Has("tokens-file")) return InputsFromFile(args.Get("tokens-file"));
  ASSIGN_OR_RETURN(v1::TextInput input, InputFromFlags(args, "text"));
  return std::vector<v1::TextInput>{std::move(input)};
}

// One tensor of one input as it comes in.
struct Captured {
  std::vector<int64_t> shape;
  std::vector<float> values;
  std::vector<uint32_t> ids;
};

// The tensors of all inputs stacked to [batch, ...]. Shorter inputs are padded with zeros on the
// right, in every dimension that grows with the length.
struct Stacked {
  std::vector<int64_t> shape;
  std::string bytes;
};

template <typename T>
void CopyPadded(const T* from, const std::vector<int64_t>& shape, T* to,
                const std::vector<int64_t>& padded, size_t dim) {
  if (dim == shape.size()) {
    *to = *from;
    return;
  }
  int64_t from_stride = 1;
  int64_t to_stride = 1;
  for (size_t i = dim + 1; i < shape.size(); ++i) {
    from_stride *= shape[i];
    to_stride *= padded[i];
  }
  for (int64_t i = 0; i < shape[dim]; ++i) {
    CopyPadded(from + i * from_stride, shape, to + i * to_stride, padded, dim + 1);
  }
}

template <typename T, typename Values>
Stacked Stack(const std::vector<Captured>& inputs, Values values) {
  std::vector<int64_t> padded = inputs.front().shape;
  for (const Captured& input : inputs) {
    for (size_t i = 0; i < padded.size(); ++i) padded[i] = std::max(padded[i], input.shape[i]);
  }
  int64_t each = 1;
  for (int64_t size : padded) each *= size;
  std::vector<T> all(static_cast<size_t>(each) * inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::vector<T> own = values(inputs[i]);
    CopyPadded(own.data(), inputs[i].shape, all.data() + static_cast<int64_t>(i) * each, padded, 0);
  }
  Stacked stacked;
  stacked.shape = {static_cast<int64_t>(inputs.size())};
  stacked.shape.insert(stacked.shape.end(), padded.begin(), padded.end());
  stacked.bytes.assign(reinterpret_cast<const char*>(all.data()), all.size() * sizeof(T));
  return stacked;
}

absl::Status WriteCaptured(const std::map<std::string, std::vector<Captured>>& tensors,
                           const std::string& path) {
  std::vector<SafetensorsWriter::Spec> specs;
  std::vector<Stacked> stacks;
  bool ragged = false;
  std::vector<int64_t> lengths;
  for (const auto& [name, inputs] : tensors) {
    const bool ids = name == "input_ids";
    stacks.push_back(ids ? Stack<int64_t>(inputs,
                                          [](const Captured& c) {
                                            return std::vector<int64_t>(c.ids.begin(), c.ids.end());
                                          })
                         : Stack<float>(inputs, [](const Captured& c) { return c.values; }));
    specs.push_back({name, ids ? DType::kI64 : DType::kF32, stacks.back().shape});
    if (!ids) continue;
    for (const Captured& input : inputs) {
      lengths.push_back(input.shape[0]);
      ragged |= input.shape[0] != inputs.front().shape[0];
    }
  }
  if (ragged) {
    specs.push_back({"lengths", DType::kI64, {static_cast<int64_t>(lengths.size())}});
    stacks.push_back(
        {{}, std::string(reinterpret_cast<const char*>(lengths.data()), lengths.size() * 8)});
  }
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, specs));
  for (size_t i = 0; i < specs.size(); ++i)
    RETURN_IF_ERROR(writer.Append(specs[i].name, stacks[i].bytes));
  return writer.Finish();
}

absl::Status Capture(const Args& args, CommandContext& context) {
  v1::CaptureActivationsRequest request;
  request.set_model_id(args.Get("model"));
  ASSIGN_OR_RETURN(const std::vector<v1::TextInput> inputs, CaptureInputs(args));
  for (const v1::TextInput& input : inputs) *request.add_inputs() = input;
  if (args.Has("hooks")) {
    for (absl::string_view hook : absl::StrSplit(args.Get("hooks"), ',', absl::SkipEmpty())) {
      request.add_hook_names(std::string(hook));
    }
  }
  request.set_logits(args.Has("logits"));

  grpc::ClientContext call;
  auto stream = context.client.explore().CaptureActivations(&call, request);
  std::map<std::string, std::vector<Captured>> tensors;
  v1::CaptureActivationsResponse piece;
  uint64_t bytes = 0;
  ProgressLine progress(context.terminal);
  while (stream->Read(&piece)) {
    std::vector<Captured>& all = tensors[piece.name()];
    all.resize(inputs.size());
    if (piece.input() >= all.size())
      return Internal("the server answered for input ", piece.input());
    Captured& tensor = all[piece.input()];
    tensor.shape.assign(piece.shape().begin(), piece.shape().end());
    tensor.values.insert(tensor.values.end(), piece.values().begin(), piece.values().end());
    tensor.ids.insert(tensor.ids.end(), piece.ids().begin(), piece.ids().end());
    bytes += piece.ByteSizeLong();
    if (!context.json) {
      progress.Show(static_cast<double>(piece.input()) / static_cast<double>(inputs.size()),
                    "capturing", absl::StrCat(FormatCount(static_cast<double>(bytes)), " bytes"));
    }
  }
  progress.Finish();
  RETURN_IF_ERROR(context.client.Explain(stream->Finish()));
  RETURN_IF_ERROR(WriteCaptured(tensors, args.Get("out")));

  nlohmann::json summary = {{"out", args.Get("out")}, {"inputs", inputs.size()}};
  for (const auto& [name, captured] : tensors) summary["tensors"].push_back(name);
  if (context.json) {
    Print(summary.dump() + "\n");
  } else {
    Print(absl::StrCat("wrote ", tensors.size(), " tensors of ", inputs.size(), " inputs to ",
                       args.Get("out"), "\n"));
  }
  return absl::OkStatus();
}

void PrintOneFeature(const CommandContext& context, const v1::TextActivations& text,
                     uint32_t feature) {
  const v1::SparseRows& acts = text.saes(0).acts();
  std::vector<float> values(static_cast<size_t>(text.tokens_size()));
  float max = 0;
  for (int row = 0; row < text.tokens_size(); ++row) {
    for (uint32_t i = acts.row_offsets(row); i < acts.row_offsets(row + 1); ++i) {
      if (acts.indices(static_cast<int>(i)) == feature) {
        values[static_cast<size_t>(row)] = acts.values(static_cast<int>(i));
      }
    }
    max = std::max(max, values[static_cast<size_t>(row)]);
  }
  std::vector<std::vector<std::string>> rows;
  for (int row = 0; row < text.tokens_size(); ++row) {
    const float value = values[static_cast<size_t>(row)];
    rows.push_back({absl::StrCat(row), TokenLabel(text.tokens(row)),
                    value > 0 ? FormatNumber(value) : "",
                    std::string(static_cast<size_t>(max > 0 ? 30 * value / max : 0), '#')});
  }
  Print(FormatTable(context.terminal, {"pos", "token", "activation", ""}, rows));
}

void PrintTopFeatures(const CommandContext& context, const v1::TextActivations& text) {
  const v1::SparseRows& acts = text.saes(0).acts();
  std::vector<std::vector<std::string>> rows;
  for (int row = 0; row < text.tokens_size(); ++row) {
    std::vector<std::pair<float, uint32_t>> entries;
    for (uint32_t i = acts.row_offsets(row); i < acts.row_offsets(row + 1); ++i) {
      entries.emplace_back(-acts.values(static_cast<int>(i)), acts.indices(static_cast<int>(i)));
    }
    std::sort(entries.begin(), entries.end());
    std::string list;
    for (const auto& [negative, feature] : entries) {
      absl::StrAppend(&list, list.empty() ? "" : "  ", feature, ":", FormatNumber(-negative, 3));
    }
    rows.push_back({absl::StrCat(row), TokenLabel(text.tokens(row)), list});
  }
  Print(
      FormatTable(context.terminal, {"pos", "token", "feature:activation, strongest first"}, rows));
  Print(absl::StrFormat("L0 %.1f, explained variance %.3f\n", text.saes(0).l0(),
                        text.saes(0).explained_variance()));
}

absl::Status Activations(const Args& args, CommandContext& context) {
  v1::ComputeActivationsRequest request;
  request.add_sae_ids(args.Get("sae"));
  ASSIGN_OR_RETURN(*request.add_inputs(), InputFromFlags(args, "text"));
  request.set_include_special_tokens(args.Has("special"));
  if (args.Has("feature") && args.Has("top-k"))
    return InvalidArgument("give --feature or --top-k, not both");
  ASSIGN_OR_RETURN(const uint64_t feature, args.Integer("feature", 0));
  ASSIGN_OR_RETURN(const uint64_t top_k, args.Integer("top-k", kDefaultTopK));
  if (args.Has("feature")) {
    request.mutable_features()->add_ids(static_cast<uint32_t>(feature));
  } else {
    request.set_top_k_per_token(static_cast<uint32_t>(top_k));
  }
  v1::ComputeActivationsResponse response;
  RETURN_IF_ERROR(context.client.Call(
      context.client.explore(), &ExploreService::Stub::ComputeActivations, request, &response));
  if (context.json) {
    PrintJson(response);
  } else if (args.Has("feature")) {
    PrintOneFeature(context, response.texts(0), static_cast<uint32_t>(feature));
  } else {
    PrintTopFeatures(context, response.texts(0));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::TextInput> InputFromFlags(const Args& args, absl::string_view text_flag) {
  v1::TextInput input;
  input.set_no_bos(args.Has("no-bos"));
  if (args.Has("tokens")) {
    if (args.Has(text_flag)) return InvalidArgument("give --", text_flag, " or --tokens, not both");
    ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, ParseIds(args.Get("tokens")));
    for (uint32_t id : ids) input.mutable_token_ids()->add_ids(id);
  } else if (args.Has(text_flag)) {
    input.set_text(args.Get(text_flag));
  } else {
    return InvalidArgument("missing --", text_flag, " or --tokens");
  }
  return input;
}

std::vector<Command> ActivationCommands() {
  const Flag text{"text", "T", "the text"};
  const Flag tokens{"tokens", "1,2,3", "token ids in place of a text"};
  const Flag no_bos{"no-bos", "", "without the BOS token that the tokenizer adds"};
  return {
      {"activations",
       "",
       "Shows the features that fire on a text, token by token.",
       {},
       {{"sae", "ID", "the SAE", true},
        text,
        tokens,
        no_bos,
        {"feature", "N", "this feature only"},
        {"top-k", "K", "that many of each token (default: 10)"},
        {"special", "", "also on special tokens such as BOS"}},
       Activations},
      {"capture",
       "",
       "Writes raw activations to a safetensors file.",
       {},
       {{"model", "ID", "the model", true},
        text,
        tokens,
        {"tokens-file", "F", "JSON array of arrays of ids, or safetensors with input_ids"},
        no_bos,
        {"hooks", "A,B", "hook points, e.g. blocks.3.hook_resid_pre"},
        {"logits", "", "also the logits"},
        {"out", "F", "the file to write", true}},
       Capture},
  };
}

}  // namespace featurescope
