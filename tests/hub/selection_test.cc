#include "server/hub/selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

HubListing Listing(const std::vector<std::string>& paths) {
  HubListing listing;
  listing.repo = "org/repo";
  for (const std::string& path : paths) listing.files.push_back({path, 1, std::string(40, 'a')});
  return listing;
}

std::vector<std::string> Names(const absl::StatusOr<std::vector<HubFile>>& files) {
  if (!files.ok()) return {files.status().ToString()};
  std::vector<std::string> names;
  for (const HubFile& file : *files) names.push_back(file.path);
  return names;
}

TEST(SelectionTest, AModelsConfigurationLiesInTheRoot) {
  EXPECT_THAT(Names(SelectModelConfig(Listing(
                  {"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model",
                   "merges.txt", "vocab.json", "chat_template.jinja", "README.md", "tf_model.h5",
                   "original/config.json", "model.gguf", "training_args.bin", "pytorch_model.bin",
                   "special_tokens_map.json", "added_tokens.json", "tokenizer_config.json"}))),
              UnorderedElementsAre("config.json", "generation_config.json", "tokenizer.json",
                                   "tokenizer.model", "merges.txt", "vocab.json",
                                   "chat_template.jinja", "special_tokens_map.json",
                                   "added_tokens.json", "tokenizer_config.json"));
}

TEST(SelectionTest, TheOnlyWeightsInTheRootAreTaken) {
  EXPECT_THAT(Names(SelectModelWeights(
                  Listing({"model.safetensors", "other.safetensors", "x/y.safetensors"}), "")),
              ElementsAre("model.safetensors"));
  EXPECT_THAT(Names(SelectModelWeights(Listing({"weights.safetensors"}), "")),
              ElementsAre("weights.safetensors"));
  for (const auto& unclear :
       {Listing({"a.safetensors", "b.safetensors"}), Listing({"model-00001-of-00002.safetensors"}),
        Listing({"x/model.safetensors"}), Listing({})}) {
    EXPECT_EQ(SelectModelWeights(unclear, "").status().code(),
              absl::StatusCode::kFailedPrecondition);
  }
}

TEST(SelectionTest, AnIndexCannotNameFilesElsewhere) {
  const HubListing listing = Listing({"a.safetensors", "x/b.safetensors", "c.bin"});
  EXPECT_THAT(Names(SelectModelWeights(listing, R"({"weight_map": {"t": "a.safetensors"}})")),
              ElementsAre("a.safetensors"));
  for (const char* bad :
       {R"({"weight_map": {"t": "../a.safetensors"}})",
        R"({"weight_map": {"t": "x/b.safetensors"}})", R"({"weight_map": {"t": "c.bin"}})",
        R"({"weight_map": {"t": 1}})", R"({"weight_map": {}})", R"({})", "[",
        R"({"weight_map": ["a.safetensors"]})"}) {
    EXPECT_EQ(SelectModelWeights(listing, bad).status().code(), absl::StatusCode::kInvalidArgument)
        << bad;
  }
}

TEST(SelectionTest, AnSaeIsItsWeightsAndTheJsonBesideThem) {
  EXPECT_THAT(
      Names(SelectSae(Listing({"a/cfg.json", "a/sae_weights.safetensors", "a/sparsity.safetensors",
                               "a/trainer_state.pt", "a/activations_store_state.safetensors",
                               "a/b/cfg.json", "cfg.json"}),
                      "a")),
      UnorderedElementsAre("a/cfg.json", "a/sae_weights.safetensors", "a/sparsity.safetensors"));
  EXPECT_THAT(Names(SelectSae(
                  Listing({"t/trainer_0/ae.pt", "t/trainer_0/config.json",
                           "t/trainer_0/checkpoints/ae_100.pt", "t/trainer_0/eval_results.json"}),
                  "t/trainer_0")),
              UnorderedElementsAre("t/trainer_0/ae.pt", "t/trainer_0/config.json",
                                   "t/trainer_0/eval_results.json"));
  EXPECT_THAT(Names(SelectSae(Listing({"L0R/hyperparams.json", "L0R/lm_config.json",
                                       "L0R/checkpoints/final.safetensors"}),
                              "L0R")),
              UnorderedElementsAre("L0R/hyperparams.json", "L0R/lm_config.json",
                                   "L0R/checkpoints/final.safetensors"));
  EXPECT_THAT(Names(SelectSae(Listing({"l0.pt", "l1.pt", "config.json"}), "l1.pt")),
              UnorderedElementsAre("config.json", "l1.pt"));
}

TEST(SelectionTest, AFolderOfSeveralSaesIsNoSae) {
  EXPECT_THAT(std::string(SelectSae(Listing({"l0.pt", "l1.pt"}), "").status().message()),
              HasSubstr("choose one: l0.pt, l1.pt"));
  EXPECT_THAT(
      std::string(SelectSae(Listing({"a/l2/ae.pt", "a/l10/ae.pt"}), "a").status().message()),
      HasSubstr("choose one of a/l2, a/l10"));
  EXPECT_THAT(std::string(SelectSae(Listing({"README.md"}), "").status().message()),
              HasSubstr("README.md"));
}

TEST(SelectionTest, PlacesAreListedInTheOrderOfTheirNumbers) {
  EXPECT_THAT(SaePlaces(Listing({"l10/ae.pt", "l9/ae.pt", "l9/config.json", "l100/ae.pt",
                                 "x/checkpoints/final.safetensors", "root.pt"}),
                        ""),
              ElementsAre("l9", "l10", "l100", "root.pt", "x"));
  EXPECT_THAT(SaePlaces(Listing({"ab/ae.pt", "a/ae.pt", "a/c/ae.pt"}), "a"),
              ElementsAre("a", "a/c"));
}

TEST(SelectionTest, LongListsAreCut) {
  std::vector<std::string> names;
  for (int i = 0; i < 20; ++i) names.push_back(std::string(1, static_cast<char>('a' + i)));
  EXPECT_EQ(ListSome(names, 3), "a, b, c and 17 more");
  EXPECT_EQ(ListSome({"x"}), "x");
}

}  // namespace
}  // namespace featurescope
