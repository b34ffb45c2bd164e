#include "server/hub/sae_releases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_replace.h"
#include "server/base/hook_point.h"

namespace featurescope {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

HubListing Listing(const std::vector<std::string>& paths) {
  HubListing listing;
  listing.repo = "org/repo";
  for (const std::string& path : paths) listing.files.push_back({path, 1, std::string(40, 'a')});
  return listing;
}

TEST(SaeReleasesTest, EveryEntryOfTheTableResolvesToItself) {
  std::set<std::string> names;
  for (const SaeRelease& release : SaeReleases()) {
    SCOPED_TRACE(release.name);
    EXPECT_TRUE(names.insert(release.name).second) << "twice in the table";
    EXPECT_TRUE(HubRepo::Parse(release.repo).ok());
    EXPECT_TRUE(HubRepo::Parse(release.model).ok());
    EXPECT_FALSE(release.about.empty());
    ASSERT_FALSE(release.ids.empty());
    for (const SaeIdPattern& pattern : release.ids) {
      const auto fill = [](const std::string& text) {
        return absl::StrReplaceAll(text,
                                   {{"{L}", "3"}, {"{N}", "71"}, {"{W}", "16k"}, {"{A}", "TopK"}});
      };
      const auto source = ResolveSaeSource(release.name + "/" + fill(pattern.id));
      ASSERT_TRUE(source.ok()) << source.status();
      EXPECT_EQ(source->release, release.name);
      EXPECT_EQ(source->repo, release.repo);
      EXPECT_EQ(source->path, fill(pattern.path));
      EXPECT_TRUE(CheckHubPath(source->path).ok());
      EXPECT_EQ(source->hook_name, fill(pattern.hook_name));
      EXPECT_TRUE(HookPoint::Parse(source->hook_name).ok()) << source->hook_name;
      if (!source->hook_name_out.empty()) {
        EXPECT_TRUE(HookPoint::Parse(source->hook_name_out).ok()) << source->hook_name_out;
      }
      // The same SAE by its repository and path: nothing known about it is lost.
      const auto direct = ResolveSaeSource(release.repo + "/" + fill(pattern.path));
      ASSERT_TRUE(direct.ok()) << direct.status();
      EXPECT_EQ(direct->hook_name, source->hook_name);
      EXPECT_EQ(direct->options.center_writing_weights, source->options.center_writing_weights);
      EXPECT_EQ(direct->options.norm_scaling_factor, source->options.norm_scaling_factor);
    }
  }
}

TEST(SaeReleasesTest, KnowsThePublishedReleases) {
  const auto jb = ResolveSaeSource("gpt2-small-res-jb/blocks.8.hook_resid_pre");
  ASSERT_TRUE(jb.ok()) << jb.status();
  EXPECT_EQ(jb->repo, "jbloom/GPT2-Small-SAEs-Reformatted");
  EXPECT_EQ(jb->model, "openai-community/gpt2");
  EXPECT_TRUE(jb->options.center_writing_weights);

  const auto oai = ResolveSaeSource("gpt2-small-resid-post-v5-32k/blocks.5.hook_resid_post");
  ASSERT_TRUE(oai.ok()) << oai.status();
  EXPECT_EQ(oai->repo, "jbloom/GPT2-Small-OAI-v5-32k-resid-post-SAEs");
  EXPECT_EQ(oai->path, "v5_32k_layer_5.pt");
  EXPECT_FALSE(oai->options.center_writing_weights);

  const auto instruct = ResolveSaeSource("gemma-scope-9b-it-res/layer_20/width_131k/average_l0_81");
  ASSERT_TRUE(instruct.ok()) << instruct.status();
  EXPECT_EQ(instruct->model, "google/gemma-2-9b-it");

  const auto llama = ResolveSaeSource("llama_scope_lxm_8x/l15m_8x");
  ASSERT_TRUE(llama.ok()) << llama.status();
  EXPECT_EQ(llama->repo, "fnlp/Llama3_1-8B-Base-LXM-8x");
  EXPECT_EQ(llama->path, "Llama3_1-8B-Base-L15M-8x");
  EXPECT_EQ(llama->hook_name, "blocks.15.hook_mlp_out");

  const auto r1 =
      ResolveSaeSource("deepseek-r1-distill-llama-8b-lmsys-openthoughts/blocks.19.hook_resid_post");
  ASSERT_TRUE(r1.ok()) << r1.status();
  EXPECT_EQ(r1->model, "deepseek-ai/DeepSeek-R1-Distill-Llama-8B");
  EXPECT_EQ(r1->options.prepend_bos, false);

  const auto mlp = ResolveSaeSource("gpt2-small-mlp-tm/blocks.11.hook_mlp_out");
  ASSERT_TRUE(mlp.ok()) << mlp.status();
  EXPECT_EQ(mlp->path, "sae_group_gpt2_blocks.11.hook_mlp_out_24576:v2");
  EXPECT_DOUBLE_EQ(mlp->options.norm_scaling_factor, 0.2851548652550073);
}

TEST(SaeReleasesTest, AWrongIdIsAnsweredWithTheFormsOfIds) {
  const auto wrong = ResolveSaeSource("gemma-scope-2b-pt-res/layer_x/width_16k/average_l0_82");
  EXPECT_EQ(wrong.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(wrong.status().message()),
              HasSubstr("layer_{L}/width_{W}/average_l0_{N}"));
  EXPECT_THAT(std::string(ResolveSaeSource("gpt2-small-res-jb").status().message()),
              AllOf(HasSubstr("needs an id"), HasSubstr("blocks.{L}.hook_resid_pre")));
}

TEST(SaeReleasesTest, AnUnknownReleaseIsAnsweredWithTheList) {
  EXPECT_THAT(std::string(ResolveSaeSource("gpt3-huge").status().message()),
              AllOf(HasSubstr("gpt2-small-res-jb"), HasSubstr("llama_scope_r1_distill")));
}

TEST(SaeReleasesTest, ReadsRepositoriesPathsAndRevisions) {
  const auto plain = ResolveSaeSource("org/repo");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->path, "");
  const auto deep = ResolveSaeSource("org/repo/a/b.c/d:v1@refs/pr/2");
  ASSERT_TRUE(deep.ok()) << deep.status();
  EXPECT_EQ(deep->repo, "org/repo");
  EXPECT_EQ(deep->path, "a/b.c/d:v1");
  EXPECT_EQ(deep->revision, "refs/pr/2");
  for (const char* bad : {"", "org/", "org/repo/../x", "org/repo/a//b", "org/repo@", "/a/b"}) {
    EXPECT_EQ(ResolveSaeSource(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(SaeReleasesTest, CanonicalIsTheOneNearestToAHundred) {
  // The numbers of layers 20 and 25 of Gemma Scope.
  const HubListing listing = Listing({"layer_20/width_65k/average_l0_11/params.npz",
                                      "layer_20/width_65k/average_l0_298/params.npz",
                                      "layer_20/width_65k/average_l0_55/params.npz",
                                      "layer_25/width_16k/average_l0_116/params.npz",
                                      "layer_25/width_16k/average_l0_55/params.npz",
                                      "layer_25/width_16k/average_l0_77/cfg.json"});
  const auto complete = [&](const char* id) {
    auto source = ResolveSaeSource(std::string("gemma-scope-2b-pt-res/") + id);
    EXPECT_TRUE(source.ok()) << source.status();
    EXPECT_TRUE(IsOpenChoice(*source));
    return CompleteSaeSource(*source, listing);
  };
  EXPECT_EQ(complete("layer_20/width_65k/canonical")->path, "layer_20/width_65k/average_l0_55");
  EXPECT_EQ(complete("layer_25/width_16k/canonical")->path, "layer_25/width_16k/average_l0_116");
  const auto absent = complete("layer_25/width_1m/canonical");
  EXPECT_EQ(absent.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(absent.status().message()),
              HasSubstr("there is layer_25/width_16k/average_l0_55, layer_25"));
}

TEST(SaeReleasesTest, AnAbsentPathIsAnsweredWithItsNeighbours) {
  const HubListing listing = Listing(
      {"blocks.2.x/sae_weights.safetensors", "README.md", "blocks.10.x/sae_weights.safetensors"});
  SaeSource source;
  source.repo = "org/repo";
  source.path = "blocks.3.x";
  EXPECT_THAT(std::string(CompleteSaeSource(source, listing).status().message()),
              HasSubstr("blocks.2.x, blocks.10.x"));
  source.path = "blocks.2.x";
  EXPECT_TRUE(CompleteSaeSource(source, listing).ok());
  source.path = "blocks.2.x/sae_weights.safetensors";
  EXPECT_TRUE(CompleteSaeSource(source, listing).ok());
}

}  // namespace
}  // namespace featurescope
