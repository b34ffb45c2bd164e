#include "server/explore/capture.h"

#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/formats/safetensors.h"
#include "server/tensor/weights.h"
#include "tests/explore/explore_fixture.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Puts pieces together again, and checks that they come in order.
struct Received {
  struct Whole {
    std::vector<uint64_t> shape;
    std::vector<float> values;
    std::vector<uint32_t> ids;
    size_t n_pieces = 0;
  };
  std::map<std::pair<uint32_t, std::string>, Whole> tensors;
  std::vector<std::pair<uint32_t, std::string>> order;

  bool Take(const CapturePiece& piece) {
    const std::pair<uint32_t, std::string> key(piece.input, piece.name);
    Whole& whole = tensors[key];
    if (whole.n_pieces++ == 0) order.push_back(key);
    EXPECT_EQ(piece.offset, whole.values.size() + whole.ids.size());
    EXPECT_LE(piece.values.size() + piece.ids.size(), kMaxPieceElements);
    whole.shape = piece.shape;
    whole.values.insert(whole.values.end(), piece.values.begin(), piece.values.end());
    whole.ids.insert(whole.ids.end(), piece.ids.begin(), piece.ids.end());
    return true;
  }
  torch::Tensor At(uint32_t input, const std::string& name) {
    Whole& whole = tensors.at({input, name});
    return torch::tensor(whole.values)
        .reshape(std::vector<int64_t>(whole.shape.begin(), whole.shape.end()));
  }
};

CaptureRequest RequestFor(std::vector<TextInput> inputs, std::vector<std::string> hooks) {
  CaptureRequest request;
  request.model = TinyModel();
  request.inputs = std::move(inputs);
  request.hook_names = std::move(hooks);
  return request;
}

absl::Status Capture(const CaptureRequest& request, Received* received) {
  DeviceWorker worker({});
  return CaptureActivations(request, worker,
                            [&](const CapturePiece& piece) { return received->Take(piece); });
}

// Every hook of the reference run, in texts of two lengths and out of order.
TEST(CaptureTest, AgreesWithTheReferenceAtEveryHook) {
  const std::string path =
      std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/lm/gpt2/expected.safetensors";
  auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  std::map<std::string, torch::Tensor> expected;
  std::vector<std::string> hooks;
  for (const TensorEntry& entry : file->entries()) {
    expected[entry.name] = *LoadTensor(*file, entry, ToScalarType(entry.dtype), torch::kCPU);
    if (entry.name != "input_ids" && entry.name != "logits") hooks.push_back(entry.name);
  }
  ASSERT_GT(hooks.size(), 20u);
  const auto ids = expected.at("input_ids");  // [2, pos]
  const auto text = [&](int64_t i) {
    std::vector<uint32_t> out;
    for (int64_t p = 0; p < ids.size(1); ++p) {
      out.push_back(static_cast<uint32_t>(ids[i][p].item<int64_t>()));
    }
    return Ids(out);
  };
  auto request = RequestFor({text(1), Ids({3, 4}), text(0)}, hooks);
  request.logits = true;
  Received received;
  const absl::Status status = Capture(request, &received);
  ASSERT_TRUE(status.ok()) << status;
  hooks.push_back("logits");
  for (const std::string& hook : hooks) {
    EXPECT_LT(MaxDifference(received.At(0, hook), expected.at(hook)[1]), 1e-4) << hook;
    EXPECT_LT(MaxDifference(received.At(2, hook), expected.at(hook)[0]), 1e-4) << hook;
  }
  EXPECT_THAT((received.tensors.at({1, "input_ids"}).ids), ElementsAre(3u, 4u));
  // Input by input, ids first.
  EXPECT_EQ(received.order.front(), (std::pair<uint32_t, std::string>(0, "input_ids")));
  EXPECT_EQ(received.order.back(), (std::pair<uint32_t, std::string>(2, "logits")));
  EXPECT_TRUE(std::is_sorted(received.order.begin(), received.order.end(),
                             [](const auto& a, const auto& b) { return a.first < b.first; }));
}

TEST(CaptureTest, PositionsChooseRows) {
  auto whole = RequestFor({Ids({1, 2, 3, 4})}, {"blocks.1.attn.hook_z"});
  whole.logits = true;
  auto some = whole;
  some.positions = {3, 1};
  Received a;
  Received b;
  ASSERT_TRUE(Capture(whole, &a).ok());
  ASSERT_TRUE(Capture(some, &b).ok());
  for (const char* name : {"blocks.1.attn.hook_z", "logits"}) {
    EXPECT_EQ(b.tensors.at({0, name}).shape[0], 2u);
    EXPECT_LT(MaxDifference(b.At(0, name)[0], a.At(0, name)[3]), 1e-6);
    EXPECT_LT(MaxDifference(b.At(0, name)[1], a.At(0, name)[1]), 1e-6);
  }
  EXPECT_EQ(b.tensors.at({0, "input_ids"}).ids.size(), 4u);
}

TEST(CaptureTest, WholeTextsOfAnyNumberComeThrough) {
  std::vector<TextInput> inputs;
  for (uint32_t i = 0; i < 40; ++i) inputs.push_back(Ids(std::vector<uint32_t>(60, i + 1)));
  const auto hook = *HookPoint::Parse("blocks.2.hook_resid_post");
  Received received;
  ASSERT_TRUE(Capture(RequestFor(inputs, {hook.name()}), &received).ok());
  for (uint32_t i = 0; i < 40; i += 13) {
    EXPECT_LT(MaxDifference(received.At(i, hook.name()),
                            ValueAt(*TinyTransformer(), std::vector<uint32_t>(60, i + 1), hook)),
              1e-4);
  }
}

TEST(CaptureTest, StopsWhenTheReceiverDoes) {
  DeviceWorker worker({});
  int n_pieces = 0;
  const absl::Status status =
      CaptureActivations(RequestFor({Ids({1}), Ids({2})}, {"hook_embed"}), worker,
                         [&](const CapturePiece&) { return ++n_pieces < 2; });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(n_pieces, 2);
}

TEST(CaptureTest, MistakesAreNamed) {
  const auto message = [](const CaptureRequest& request) {
    Received received;
    const absl::Status status = Capture(request, &received);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_TRUE(received.tensors.empty());
    return std::string(status.message());
  };
  EXPECT_THAT(message(RequestFor({}, {"hook_embed"})), HasSubstr("there are no inputs"));
  EXPECT_THAT(message(RequestFor({Ids({1})}, {})), HasSubstr("nothing to capture"));
  EXPECT_THAT(message(RequestFor({Ids({1})}, {"blocks.0.hook_resid"})),
              HasSubstr("blocks.0.hook_resid"));
  EXPECT_THAT(message(RequestFor({Ids({1})}, {"blocks.3.hook_resid_post"})),
              HasSubstr("blocks.3.hook_resid_post"));
  EXPECT_THAT(message(RequestFor({Ids({1})}, {"hook_embed", "hook_embed"})),
              HasSubstr("hook hook_embed is named twice"));
  auto positions = RequestFor({Ids({1, 2}), Ids({1})}, {"hook_embed"});
  positions.positions = {1};
  EXPECT_THAT(message(positions), HasSubstr("position 1 is out of range [0, 1) in inputs[1]"));
  positions = RequestFor({Ids({1, 2})}, {"blocks.0.attn.hook_pattern"});
  positions.positions = {1};
  EXPECT_THAT(message(positions), HasSubstr("blocks.0.attn.hook_pattern"));
}

}  // namespace
}  // namespace featurescope
