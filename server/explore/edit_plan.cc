#include "server/explore/edit_plan.h"

#include <algorithm>
#include <limits>

#include "server/base/status.h"
#include "server/catalog/hook_values.h"
#include "server/explore/sparse_activations.h"

namespace featurescope {
namespace {

// Of `edit`'s SAE among the SAEs that `edits` name at the hook point that it writes, in the order
// of first naming.
size_t StageOf(absl::Span<const Intervention> edits, const Intervention& edit) {
  std::vector<const Sae*> seen;
  for (const Intervention& other : edits) {
    if (other.sae.sae == edit.sae.sae) break;
    if (other.sae.output_hook() == edit.sae.output_hook() &&
        std::find(seen.begin(), seen.end(), other.sae.sae.get()) == seen.end()) {
      seen.push_back(other.sae.sae.get());
    }
  }
  return seen.size();
}

// The activation after one edit that acts on the feature's own activation.
float Edited(const Intervention& edit, float activation) {
  const float value = edit.unit == EditUnit::kFeature ? edit.value : edit.value * edit.unit_size;
  switch (edit.operation) {
    case EditOperation::kAdd:
      return activation + value;
    case EditOperation::kSet:
      return value;
    case EditOperation::kScale:
      return activation * value;
    case EditOperation::kAblateZero:
      return 0;
  }
  return activation;
}

bool NormalizesRows(const Sae& sae) {
  return sae.config().normalize_activations == NormalizeActivations::kConstantNormRescale ||
         sae.config().normalize_activations == NormalizeActivations::kLayerNorm;
}

// The code of some rows as far as their edits need it, on the CPU.
struct Code {
  std::vector<uint32_t> features;  // that any row edits, ascending
  torch::Tensor before;            // float32 [n, features]
  torch::Tensor after;             // the same, as the edits leave it
  torch::Tensor residual;          // float32 [n, features]: added along unit decoder rows
  EncodedRows all;                 // the whole code, where it is needed

  int64_t Column(uint32_t feature) const {
    return std::lower_bound(features.begin(), features.end(), feature) - features.begin();
  }
};

// after - before as sparse rows.
SparseRows Difference(const Code& code, int64_t d_sae) {
  const auto n = code.before.size(0);
  SparseActivations difference;
  difference.n_cols = static_cast<uint32_t>(d_sae);
  const auto before = code.before.accessor<float, 2>();
  const auto after = code.after.accessor<float, 2>();
  for (int64_t i = 0; i < n; ++i) {
    for (size_t c = 0; c < code.features.size(); ++c) {
      const auto column = static_cast<int64_t>(c);
      const float delta = after[i][column] - before[i][column];
      if (delta != 0) difference.Add(code.features[c], delta);
    }
    difference.EndRow();
  }
  return ToSparseRows(difference, 0, static_cast<size_t>(n));
}

// The whole code with the edited features replaced.
SparseRows Replaced(const Code& code) {
  const SparseRows all = code.all.acts.To(torch::kCPU);
  SparseActivations replaced;
  replaced.n_cols = static_cast<uint32_t>(all.n_cols);
  const auto after = code.after.accessor<float, 2>();
  for (int64_t i = 0; i < all.n_rows(); ++i) {
    std::vector<std::pair<uint32_t, float>> row;
    const SparseRowView view = RowOf(all, i);
    for (size_t e = 0; e < view.indices.size(); ++e) {
      const auto feature = static_cast<uint32_t>(view.indices[e]);
      if (!std::binary_search(code.features.begin(), code.features.end(), feature)) {
        row.emplace_back(feature, view.values[e]);
      }
    }
    for (size_t c = 0; c < code.features.size(); ++c) {
      const float value = after[i][static_cast<int64_t>(c)];
      if (value != 0) row.emplace_back(code.features[c], value);
    }
    std::sort(row.begin(), row.end());
    for (const auto& [feature, value] : row) replaced.Add(feature, value);
    replaced.EndRow();
  }
  return ToSparseRows(replaced, 0, replaced.n_rows());
}

// What the edits in units of the residual stream add, [n, d_out]; undefined: nothing.
absl::StatusOr<torch::Tensor> ResidualDelta(const Sae& sae, const Code& code) {
  torch::Tensor delta;
  for (size_t c = 0; c < code.features.size(); ++c) {
    const auto strength = code.residual.select(1, static_cast<int64_t>(c));  // [n]
    if (strength.count_nonzero().item<int64_t>() == 0) continue;
    const auto direction = sae.FeatureDirection(code.features[c]);
    const float norm = direction.norm().item<float>();
    if (!(norm > 0)) {
      return FailedPrecondition("feature ", code.features[c],
                                " has a decoder row of norm 0, which has no direction");
    }
    const auto part = torch::outer(strength.to(direction.device()), direction / norm);
    delta = delta.defined() ? delta + part : part;
  }
  return delta;
}

// y' of rows `y` [n, d_out]. `taken_off` is what centring took off them.
absl::StatusOr<torch::Tensor> ApplyCode(const Sae& sae, ErrorTerm error_term, const Code& code,
                                        const torch::Tensor& y, const torch::Tensor& taken_off) {
  torch::Tensor edited;
  if (error_term == ErrorTerm::kDropped) {
    edited = sae.Decode(EncodedRows{Replaced(code).To(y.device()), code.all.normalization,
                                    code.all.skip_input}) +
             taken_off;
  } else {
    // The decoder is affine: decode(f') - decode(f) = decode(f' - f) - decode(0).
    SparseRows difference = Difference(code, sae.config().d_sae).To(y.device());
    SparseRows nothing = difference;
    nothing.row_offsets = torch::zeros_like(difference.row_offsets);
    nothing.indices = difference.indices.narrow(0, 0, 0);
    nothing.values = difference.values.narrow(0, 0, 0);
    edited = y + (sae.Decode(EncodedRows{std::move(difference), code.all.normalization, {}}) -
                  sae.Decode(EncodedRows{std::move(nothing), code.all.normalization, {}}));
  }
  ASSIGN_OR_RETURN(const torch::Tensor along, ResidualDelta(sae, code));
  return along.defined() ? edited + along : edited;
}

}  // namespace

EditPlan::RowEdits& EditPlan::RowFor(const Intervention& edit, size_t stage, int64_t row,
                                     uint32_t position) {
  auto at = std::find_if(hooks_.begin(), hooks_.end(),
                         [&](const HookEdits& h) { return h.hook == edit.sae.output_hook(); });
  if (at == hooks_.end()) at = hooks_.insert(at, {edit.sae.output_hook(), {}});
  if (at->stages.size() <= stage) at->stages.resize(stage + 1);
  std::vector<Group>& groups = at->stages[stage];
  auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& g) {
    return g.sae.sae == edit.sae.sae && g.sae.hook == edit.sae.hook &&
           g.sae.center_writing_weights == edit.sae.center_writing_weights &&
           g.error_term == edit.error_term;
  });
  if (group == groups.end()) group = groups.insert(group, {edit.sae, edit.error_term, {}});
  // Rows come one after another, so that only the last can be this one.
  if (group->rows.empty() || group->rows.back().row != row) {
    group->rows.push_back({row, position, {}});
  }
  return group->rows.back();
}

void EditPlan::Add(int64_t row, uint32_t position, absl::Span<const Intervention> edits,
                   const std::vector<size_t>& applying, std::vector<EditProof>* proofs) {
  for (const size_t i : applying) {
    RowFor(edits[i], StageOf(edits, edits[i]), row, position)
        .edits.push_back({&edits[i], &(*proofs)[i]});
  }
}

std::vector<int64_t> EditPlan::Group::row_indices() const {
  std::vector<int64_t> indices;
  for (const RowEdits& row : rows) indices.push_back(row.row);
  return indices;
}

void EditPlan::AddHooks(HookSet* hooks) {
  for (const HookEdits& at : hooks_) {
    hooks->Add(at.hook, [this, &at](const HookContext&, torch::Tensor& value) {
      status_ = EditValue(at, &value);
      // Ends the pass before the caches count its tokens: it can be run again.
      TORCH_CHECK(status_.ok(), "an edit failed");
    });
  }
  // Transcoders read what the edits above have left.
  for (HookEdits& at : hooks_) {
    for (std::vector<Group>& stage : at.stages) {
      for (Group& group : stage) {
        if (!group.sae.sae->is_transcoder()) continue;
        hooks->Add(group.sae.hook, [&group](const HookContext& here, torch::Tensor& value) {
          const auto index = torch::tensor(group.row_indices(), torch::kInt64).to(value.device());
          group.read =
              HookRows(value.index_select(0, index), here.hook, group.sae.center_writing_weights);
        });
      }
    }
  }
}

absl::Status EditPlan::EditValue(const HookEdits& at, torch::Tensor* value) {
  torch::Tensor edited = value->reshape({value->size(0), -1}).clone();  // [rows, d_out]
  for (const std::vector<Group>& stage : at.stages) {
    for (const Group& group : stage) {
      const auto index = torch::tensor(group.row_indices(), torch::kInt64).to(edited.device());
      const auto y = edited.index_select(0, index).to(torch::kFloat32);
      ASSIGN_OR_RETURN(const torch::Tensor changed, EditRows(group, y));
      edited.index_copy_(0, index, changed.to(edited.scalar_type()));
    }
  }
  *value = edited.view(value->sizes());
  return absl::OkStatus();
}

absl::StatusOr<torch::Tensor> EditPlan::EditRows(const Group& group, const torch::Tensor& y) {
  const Sae& sae = *group.sae.sae;
  const auto centred = [&](const torch::Tensor& rows) {
    return HookRows(rows, group.sae.output_hook(), group.sae.center_writing_weights);
  };
  const torch::Tensor x = sae.is_transcoder() ? group.read : centred(y);  // [n, d_in]
  if (!x.defined()) return Internal("the pass did not reach ", group.sae.hook.name());
  Code code;
  for (const RowEdits& row : group.rows) {
    for (const Edit& edit : row.edits) code.features.push_back(edit.intervention->feature);
  }
  std::sort(code.features.begin(), code.features.end());
  code.features.erase(std::unique(code.features.begin(), code.features.end()), code.features.end());
  if (group.error_term == ErrorTerm::kDropped || NormalizesRows(sae)) {
    ASSIGN_OR_RETURN(code.all, sae.Encode(x));
  }
  ASSIGN_OR_RETURN(const torch::Tensor before, sae.EncodeFeatures(x, code.features));
  code.before = before.to(torch::kCPU).contiguous();
  code.after = code.before.clone();
  code.residual = torch::zeros_like(code.before);
  auto after = code.after.accessor<float, 2>();
  auto residual = code.residual.accessor<float, 2>();
  for (size_t i = 0; i < group.rows.size(); ++i) {
    for (const Edit& edit : group.rows[i].edits) {
      const auto row = static_cast<int64_t>(i);
      const int64_t column = code.Column(edit.intervention->feature);
      if (edit.intervention->unit == EditUnit::kResidual) {
        residual[row][column] += edit.intervention->value;
      } else {
        after[row][column] = Edited(*edit.intervention, after[row][column]);
      }
    }
  }

  ASSIGN_OR_RETURN(const torch::Tensor changed,
                   ApplyCode(sae, group.error_term, code, y, y - centred(y)));
  torch::Tensor seen_after = code.after;  // a transcoder does not read what it writes
  if (!sae.is_transcoder()) {
    ASSIGN_OR_RETURN(const torch::Tensor seen, sae.EncodeFeatures(centred(changed), code.features));
    seen_after = seen.to(torch::kCPU).contiguous();
  }
  const auto relative =
      ((changed - y).norm(2, {1}) / y.norm(2, {1}).clamp_min(std::numeric_limits<float>::min()))
          .to(torch::kCPU)
          .contiguous();  // [n]
  for (size_t i = 0; i < group.rows.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    for (const Edit& edit : group.rows[i].edits) {
      const int64_t column = code.Column(edit.intervention->feature);
      noted_.push_back(
          {edit.proof, group.rows[i].position, code.before.accessor<float, 2>()[row][column],
           seen_after.accessor<float, 2>()[row][column], relative.accessor<float, 1>()[row]});
    }
  }
  return changed;
}

void EditPlan::Commit() {
  for (const Noted& noted : noted_) {
    noted.proof->positions.push_back(noted.position);
    noted.proof->activation_before.push_back(noted.before);
    noted.proof->activation_after.push_back(noted.after);
    noted.proof->relative_change.push_back(noted.relative_change);
  }
}

}  // namespace featurescope
