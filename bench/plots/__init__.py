# SPDX-License-Identifier: Apache-2.0
"""The plots of docs/, one module each; bench/plot.py draws them."""
