// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {Ledger} from "./Ledger.sol";

/// @title Where the Ledger's treasury is paid: a share of the fees goes to the commons, the rest to who maintains this.
contract FeeSplitter is AccessManaged {
    using SafeERC20 for IERC20;

    uint256 private constant BPS = 10_000;

    Ledger public immutable ledger;
    IERC20 public immutable token;
    address public immutable commons;

    address public maintainers;
    uint16 public commonsBps;

    event Split(uint256 toCommons, uint256 toMaintainers);
    event TermsSet(address indexed maintainers, uint16 commonsBps);

    error ZeroAddress();
    error RateTooHigh(uint256 bps, uint256 most);

    // A wrong address for the commons is as bad as none, and is seen at deployment.
    // slither-disable-next-line missing-zero-check
    constructor(Ledger ledger_, address commons_, address maintainers_, uint16 commonsBps_, address authority)
        AccessManaged(authority)
    {
        (ledger, token, commons) = (ledger_, ledger_.token(), commons_);
        _setTerms(maintainers_, commonsBps_);
    }

    /// @notice Collect the treasury's credit and pass on everything held here. Anybody may call it.
    function split() external {
        ledger.collect(0);
        uint256 held = token.balanceOf(address(this));
        uint256 toCommons = held * commonsBps / BPS;
        emit Split(toCommons, held - toCommons);
        token.safeTransfer(commons, toCommons);
        token.safeTransfer(maintainers, held - toCommons);
    }

    /// @notice Change who maintains and what the commons get, also of what was not split yet.
    function setTerms(address maintainers_, uint16 commonsBps_) external restricted {
        _setTerms(maintainers_, commonsBps_);
    }

    function _setTerms(address maintainers_, uint16 commonsBps_) private {
        if (maintainers_ == address(0)) revert ZeroAddress();
        if (commonsBps_ > BPS) revert RateTooHigh(commonsBps_, BPS);
        (maintainers, commonsBps) = (maintainers_, commonsBps_);
        emit TermsSet(maintainers_, commonsBps_);
    }
}
