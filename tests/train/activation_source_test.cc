// Where activations come from: mixtures of corpora, files, caches.
#include "server/train/activation_source.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "server/engine/device_worker.h"
#include "server/formats/file.h"
#include "server/train/activation_cache.h"
#include "server/train/activation_files.h"
#include "server/train/activation_stream.h"
#include "server/train/file_source.h"
#include "server/train/model_source.h"
#include "tests/train/training_fixture.h"

namespace featurescope {
namespace {

class ActivationSourceTest : public testing::Test {
 protected:
  ActivationSourceTest() : inputs_(TinyInputs(directory_ / "corpus")) {
    ctx_.device = &device_;
    ctx_.work_dir = directory_ / "work";
  }

  // Rows [n, width] as raw float32.
  std::string WriteRaw(const std::string& name, const torch::Tensor& rows) {
    const std::string path = directory_ / name;
    const torch::Tensor flat = rows.contiguous();
    std::ofstream(path, std::ios::binary)
        .write(static_cast<const char*>(flat.data_ptr()), static_cast<int64_t>(flat.nbytes()));
    return path;
  }
  // All rows of block `block`.
  torch::Tensor ReadBlock(ActivationSource& source, uint64_t block) {
    std::vector<torch::Tensor> rows = {torch::empty({source.MaxRows(block), source.widths()[0]})};
    int64_t n = 0;
    bool last = false;
    for (uint64_t piece = 0; !last; ++piece) {
      last = source.Read(block, piece, CancelToken(), &rows, &n).value();
    }
    return rows[0].slice(0, 0, n).clone();
  }

  TempDir directory_;
  TrainingInputs inputs_;
  DeviceWorker device_{DeviceWorkerOptions()};
  RunContext ctx_;
};

TEST_F(ActivationSourceTest, AMixtureHasItsSharesAndVisitsEveryContextOfARound) {
  inputs_.corpus_weight = 3;
  const TrainingInputs other = TinyInputs(directory_ / "other", 300);
  inputs_.more_corpora = {{other.corpus, 1}};
  const ContextOrder order(inputs_, 5, ContextOrder::Kind::kShuffled);
  std::map<const TokenFile*, uint64_t> seen;
  std::set<uint64_t> contexts;
  const uint64_t n_other = other.corpus->train_contexts().size();
  for (uint64_t i = 0; i < 4096; ++i) {
    const ContextOrder::Place place = order.At(i);
    ++seen[place.corpus];
    ASSERT_LT(place.context, place.corpus->train_contexts().size());
    if (place.corpus == other.corpus.get() && seen[place.corpus] <= n_other) {
      contexts.insert(place.context);
    }
  }
  EXPECT_EQ(seen[inputs_.corpus.get()], 3072u);
  EXPECT_EQ(seen[other.corpus.get()], 1024u);
  EXPECT_EQ(contexts.size(), n_other);
}

TEST_F(ActivationSourceTest, FilesAreReadAcrossTheirBordersAndShuffledInRuns) {
  const torch::Tensor rows = torch::arange(1000 * 4, torch::kFloat32).view({1000, 4});
  ActivationFiles::Channel channel;
  channel.dtype = DType::kF32;
  channel.width = 4;
  channel.paths = {WriteRaw("a", rows.slice(0, 0, 100)), WriteRaw("b", rows.slice(0, 100, 730)),
                   WriteRaw("c", rows.slice(0, 730))};
  inputs_.activations = ActivationFiles::OpenRaw({channel}).value();
  ASSERT_EQ(inputs_.activations->n_rows(), 1000);
  torch::Tensor some = torch::empty({700, 4});
  ASSERT_TRUE(inputs_.activations->ReadRows(0, 90, 700, some).ok());
  EXPECT_TRUE(torch::equal(some, rows.slice(0, 90, 790)));

  TrainingSpec spec;
  spec.buffer_tokens = 256;
  spec.seed = 3;
  auto source = FileSource::Create(inputs_, {inputs_.hook}, spec).value();
  std::multiset<float> seen;
  for (uint64_t block = 0; block < 4; ++block) {  // one round: 16 runs of 64 rows
    const torch::Tensor read = ReadBlock(*source, block);
    for (int64_t i = 0; i < read.size(0); ++i) seen.insert(read[i][0].item<float>());
  }
  EXPECT_EQ(seen.size(), 1000u);
  EXPECT_EQ(std::set<float>(seen.begin(), seen.end()).size(), 1000u);
  auto again = FileSource::Create(inputs_, {inputs_.hook}, spec).value();
  EXPECT_TRUE(torch::equal(ReadBlock(*again, 6), ReadBlock(*source, 6)));
  EXPECT_FALSE(torch::equal(ReadBlock(*again, 1), ReadBlock(*again, 5)));
}

TEST_F(ActivationSourceTest, BadFilesAreRefused) {
  ActivationFiles::Channel one;
  one.dtype = DType::kF32;
  one.width = 4;
  one.paths = {WriteRaw("one", torch::ones({10, 4}))};
  ActivationFiles::Channel two = one;
  two.paths = {WriteRaw("two", torch::ones({11, 4}))};
  EXPECT_EQ(ActivationFiles::OpenRaw({one, two}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ActivationFiles::OpenRaw({}).status().code(), absl::StatusCode::kInvalidArgument);
  ActivationFiles::Channel infinite = one;
  infinite.paths = {WriteRaw("nan", torch::full({10, 4}, std::nan("")))};
  torch::Tensor out = torch::empty({10, 4});
  const absl::Status status = ActivationFiles::OpenRaw({infinite}).value()->ReadRows(0, 0, 10, out);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("nan"), absl::string_view::npos) << status;
}

TEST_F(ActivationSourceTest, ACacheHoldsTheModelsActivations) {
  ActivationCacheSpec spec;
  spec.hooks = {inputs_.hook, HookPoint::Parse("blocks.0.mlp.hook_post").value()};
  spec.dtype = DType::kF32;
  spec.rows_per_shard = 150;
  const std::string dir = directory_ / "cache";
  ASSERT_TRUE(WriteActivationCache(inputs_, spec, ctx_, dir).ok());
  const auto files = ActivationFiles::OpenCache(dir).value();
  ASSERT_EQ(files->channels().size(), 2u);
  EXPECT_EQ(files->channels()[1].hook_name, "blocks.0.mlp.hook_post");
  EXPECT_GE(files->channels()[0].paths.size(), 3u);
  EXPECT_EQ(static_cast<uint64_t>(files->n_rows()) * (48 + 192) * 4,
            ActivationCacheBytes(inputs_, spec).value());
  // The same rows, in the contexts' order, as from the model.
  TrainingSpec all;
  all.buffer_tokens = static_cast<uint64_t>(files->n_rows());
  auto model = ModelSource::Create(inputs_, {inputs_.hook}, all, ContextOrder::Kind::kInOrder);
  const torch::Tensor expected = ReadBlock(**model, 0);
  torch::Tensor actual = torch::empty({files->n_rows(), 48});
  ASSERT_TRUE(files->ReadRows(0, 0, files->n_rows(), actual).ok());
  EXPECT_TRUE(torch::allclose(actual, expected, 1e-4, 1e-4));
}

TEST_F(ActivationSourceTest, ACacheIsContinuedAndNotMixedWithAnother) {
  ActivationCacheSpec spec;
  spec.hooks = {inputs_.hook};
  spec.rows_per_shard = 100;
  const std::string dir = directory_ / "cache";
  ASSERT_TRUE(WriteActivationCache(inputs_, spec, ctx_, dir).ok());
  // Interrupted: the last shard and the description are not there yet.
  const auto files = ActivationFiles::OpenCache(dir).value();
  const std::string last = files->channels()[0].paths.back();
  const std::string first = files->channels()[0].paths.front();
  const auto time = std::filesystem::last_write_time(first);
  std::filesystem::remove(last);
  std::filesystem::remove(dir + "/activations.json");
  ASSERT_TRUE(WriteActivationCache(inputs_, spec, ctx_, dir).ok());
  EXPECT_TRUE(FileExists(last));
  EXPECT_EQ(std::filesystem::last_write_time(first), time);
  spec.dtype = DType::kF16;
  EXPECT_EQ(WriteActivationCache(inputs_, spec, ctx_, dir).code(),
            absl::StatusCode::kFailedPrecondition);
  std::filesystem::resize_file(last, std::filesystem::file_size(last) / 2 / 96 * 96);
  EXPECT_EQ(ActivationFiles::OpenCache(dir).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(ActivationSourceTest, ValuesTooLargeForFloat16AreRefused) {
  ActivationCacheSpec spec;
  spec.hooks = {HookPoint::Parse("blocks.7.hook_resid_post").value()};
  EXPECT_FALSE(WriteActivationCache(inputs_, spec, ctx_, directory_ / "cache").ok());
  spec.hooks = {};
  EXPECT_FALSE(WriteActivationCache(inputs_, spec, ctx_, directory_ / "cache").ok());
}

}  // namespace
}  // namespace featurescope
