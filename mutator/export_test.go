// SPDX-License-Identifier: Apache-2.0

package mutator

var AnswerTo = answerTo
